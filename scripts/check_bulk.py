"""``make check-bulk``: ``layertap extract`` over 20,000 images, killed in the middle and started again.

Prints the rate, the memory that the command held early and late, and whether every image is there once.
``LAYERTAP_CHECK_IMAGES`` is how many images there are, ``LAYERTAP_CHECK_SUFFIX`` the format (.zarr).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from layertap import Client, Features
from layertap.storage.index import index_path, read_index
from tests.e2e.test_bulk_extract import make_images
from tests.processes import running_server

COUNT = int(os.environ.get("LAYERTAP_CHECK_IMAGES", "20000"))
SUFFIX = os.environ.get("LAYERTAP_CHECK_SUFFIX", ".zarr")
MODEL = "efficientnet_lite0"
TAPS = ("pooled | flatten -> v",)
"""What ``make bench`` asks for in bulk, so that the rates can be compared."""
MEBIBYTE = 2**20
EARLY, LATE = 0.1, 0.9
MOST_GROWTH_BYTES = 32 * MEBIBYTE
"""What one part takes: it may be empty when memory is first looked at."""


@dataclass
class Watched:
    """What was seen of one run of the command."""

    rows: int
    seconds: float
    resident: dict[float, int]
    """Peak resident bytes when such a share of all rows was committed."""


def watch(words: list[str], out: Path, kill_at: float | None) -> Watched:
    """Runs the command; ``kill_at`` is the share of all images after which it is killed."""
    began, first, resident, rows = time.monotonic(), rows_of(out), {}, 0
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            rows = rows_of(out)
            for share in (EARLY, LATE):
                if rows > first and rows >= share * COUNT and share not in resident:
                    resident[share] = peak_bytes(process.pid)
            if kill_at is not None and rows >= kill_at * COUNT:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.05)
    return Watched(rows_of(out) - first, time.monotonic() - began, resident)


def rows_of(out: Path) -> int:
    index = read_index(out) if index_path(out).exists() else None
    return index.rows if index else 0


def peak_bytes(process: int) -> int:
    """The most memory that the process ever held."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):  # it ended
        return 0


def is_complete(out: Path, good: list[str], broken: list[str], address: str) -> bool:
    """Every image once, every broken one in the list, and values as of `Client.extract`, of one image in 500."""
    features = Features.load(out)
    lines = out.with_name(f"{out.name}.errors.jsonl").read_text().splitlines()
    listed = sorted(json.loads(line)["path"] for line in lines)
    with Client(address) as client:
        for row in range(0, len(features.paths), 500):
            expected = client.extract(features.paths[row], model=MODEL, taps=TAPS)
            if not all(np.array_equal(features[name][row], array[0]) for name, array in expected.items()):
                return False
    return sorted(features.paths) == good and listed == broken


def seconds_alone(images: list[str], address: str) -> float:
    """What `Client.extract_many` takes for the same images, whose features nobody keeps."""
    began = time.monotonic()
    with Client(address) as client:
        for _ in client.extract_many(images, model=MODEL, taps=TAPS):
            pass
    return time.monotonic() - began


def tell(what: str, run: Watched) -> None:
    held = ", ".join(f"{peak / MEBIBYTE:.0f} MiB at {share:.0%}" for share, peak in run.resident.items())
    print(
        f"{what}: {run.rows} images in {run.seconds:.0f} s, {run.rows / run.seconds:.0f} a second; peak {held}",
        flush=True,
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, running_server() as server:
        out, at_once = (Path(folder) / f"{name}{SUFFIX}" for name in ("features", "at_once"))
        (Path(folder) / "photos").mkdir()
        good, broken = make_images(Path(folder) / "photos", COUNT)
        print(f"{len(good)} images and {len(broken)} broken ones", flush=True)
        taps = [word for tap in TAPS for word in ("--tap", tap)]
        words = [sys.executable, "-m", "layertap.cli", "extract", str(Path(folder) / "photos"), "--model", MODEL]
        words += [*taps, "--server", server.address, "--out"]
        tell("killed in the middle", watch([*words, str(out)], out, kill_at=0.5))
        tell("started again", watch([*words, str(out)], out, kill_at=None))
        complete = is_complete(out, good, broken, server.address)
        whole = watch([*words, str(at_once)], at_once, kill_at=None)
        tell("in one go", whole)
        alone = seconds_alone([*good, *broken], server.address)
        ratio = alone / whole.seconds
        print(f"extract_many alone: {alone:.0f} s; the command's rate is {ratio:.2f} of it (at least 0.9 is wanted)")
        complete = complete and is_complete(at_once, good, broken, server.address)
    grown = whole.resident[LATE] - whole.resident[EARLY]
    print(f"memory grew by {grown / MEBIBYTE:.1f} MiB; {'complete' if complete else 'NOT COMPLETE'}")
    return 0 if complete and grown <= MOST_GROWTH_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
