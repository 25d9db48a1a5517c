"""Read and write the index of a bulk output: a JSON file with the run and the number of committed rows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from layertap.storage.errors import StorageError
from layertap.storage.files import replace_file


@dataclass(frozen=True, slots=True)
class Run:
    """What all rows of an output have in common; only an equal run can continue the output."""

    model: str
    version: str
    taps: tuple[str, ...]

    def __str__(self) -> str:
        """Return the run as text for messages."""
        taps = ", ".join(map(repr, self.taps)) or "the default taps"
        return f"model {self.model} version {self.version}, {taps}"


@dataclass(frozen=True, slots=True)
class Index:
    """The content of an index file."""

    run: Run
    """The model, version and taps of the rows."""
    rows: int
    """Number of committed rows; later rows do not count."""
    rows_per_part: int
    """Number of rows of a full part."""
    folder: str = ""
    """Folder that the rows' paths are relative to; empty if unknown."""


def index_path(out: Path) -> Path:
    """Return the path of the index: ``features.zarr.index.json`` for ``features.zarr``."""
    return out.with_name(f"{out.name}.index.json")


def write_index(out: Path, index: Index) -> None:
    """Replace the index of an output, atomically and durably."""
    with replace_file(index_path(out)) as partial:
        partial.write_text(json.dumps(asdict(index), indent=1))


def read_index(out: Path) -> Index | None:
    """Return the index of an output, or None if it has none.

    Raises:
        StorageError: the index is damaged.
    """
    path = index_path(out)
    try:
        facts = json.loads(path.read_text())
        run = Run(facts["run"]["model"], facts["run"]["version"], tuple(facts["run"]["taps"]))
        return Index(run, int(facts["rows"]), int(facts["rows_per_part"]), str(facts.get("folder", "")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} is damaged: it is not the index of a bulk output") from error
