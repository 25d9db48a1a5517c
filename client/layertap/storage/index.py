"""The index of an output in bulk: a small JSON file beside it that says what it is of, and how much of it counts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from layertap.storage.errors import StorageError
from layertap.storage.files import replacing


@dataclass(frozen=True, slots=True)
class Run:
    """What every row of an output has in common; a run with another cannot go on with it."""

    model: str
    version: str
    taps: tuple[str, ...]

    def __str__(self) -> str:
        taps = ", ".join(map(repr, self.taps)) or "the default taps"
        return f"model {self.model} version {self.version}, {taps}"


@dataclass(frozen=True, slots=True)
class Index:
    run: Run
    rows: int
    """Those that are committed; what lies beyond is not there."""
    rows_per_part: int
    folder: str = ""
    """What the rows' paths are relative to; empty where nobody knows."""


def index_path(out: Path) -> Path:
    """``features.zarr.index.json`` beside ``features.zarr``."""
    return out.with_name(f"{out.name}.index.json")


def write_index(out: Path, index: Index) -> None:
    with replacing(index_path(out)) as partial:
        partial.write_text(json.dumps(asdict(index), indent=1))


def read_index(out: Path) -> Index | None:
    """None where there is none.

    Raises:
        StorageError: it is damaged.
    """
    path = index_path(out)
    try:
        facts = json.loads(path.read_text())
        run = Run(facts["run"]["model"], facts["run"]["version"], tuple(facts["run"]["taps"]))
        return Index(run, int(facts["rows"]), int(facts["rows_per_part"]), str(facts.get("folder", "")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} is no index of features") from error
