"""Extract 20,000 images with ``layertap extract``, kill the run in the middle and continue it (``make check-bulk``).

Prints the rate, the memory of the command early and late, and whether every image has exactly one row.
``LAYERTAP_CHECK_IMAGES`` sets the number of images, ``LAYERTAP_CHECK_SUFFIX`` the format (default: .zarr).
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
"""Number of images."""
SUFFIX = os.environ.get("LAYERTAP_CHECK_SUFFIX", ".zarr")
"""Suffix of the output."""
MODEL = "efficientnet_lite0"
TAPS = ("pooled | flatten -> v",)
"""The taps that ``make bench`` uses in bulk, so that rates are comparable."""
MEBIBYTE = 2**20
EARLY, LATE = 0.1, 0.9
"""Shares of all images at which memory is measured."""
MAX_GROWTH_BYTES = 32 * MEBIBYTE
"""Maximum growth of memory: the size of one part, whose buffer may not be allocated at the first measurement."""


@dataclass
class Run:
    """Measurements of one run of the command."""

    rows: int
    """Number of rows that the run added."""
    seconds: float
    """Duration in seconds."""
    resident: dict[float, int]
    """Peak resident bytes at each share of committed rows."""


def watch(words: list[str], out: Path, kill_at: float | None) -> Run:
    """Run the command and measure it; ``kill_at`` is the share of all images after which it is killed."""
    began, first, resident, rows = time.monotonic(), committed_rows(out), {}, 0
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            rows = committed_rows(out)
            for share in (EARLY, LATE):
                if rows > first and rows >= share * COUNT and share not in resident:
                    resident[share] = peak_bytes(process.pid)
            if kill_at is not None and rows >= kill_at * COUNT:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.05)
    return Run(committed_rows(out) - first, time.monotonic() - began, resident)


def committed_rows(out: Path) -> int:
    """Return the number of committed rows of an output."""
    index = read_index(out) if index_path(out).exists() else None
    return index.rows if index else 0


def peak_bytes(process: int) -> int:
    """Return the peak resident bytes of a process; 0 if it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):  # it ended
        return 0


def is_complete(out: Path, good: list[str], broken: list[str], address: str) -> bool:
    """Return whether each image has one row, broken images are listed, and every 500th row equals `Client.extract`."""
    features = Features.load(out)
    lines = out.with_name(f"{out.name}.errors.jsonl").read_text().splitlines()
    listed = sorted(json.loads(line)["path"] for line in lines)
    with Client(address) as client:
        for row in range(0, len(features.paths), 500):
            expected = client.extract(features.paths[row], model=MODEL, taps=TAPS)
            if not all(np.array_equal(features[name][row], array[0]) for name, array in expected.items()):
                return False
    return sorted(features.paths) == good and listed == broken


def time_client(images: list[str], address: str) -> float:
    """Return the seconds that `Client.extract_many` takes for the images, without saving features."""
    began = time.monotonic()
    with Client(address) as client:
        for _ in client.extract_many(images, model=MODEL, taps=TAPS):
            pass
    return time.monotonic() - began


def report(what: str, run: Run) -> None:
    """Print the measurements of a run."""
    held = ", ".join(f"{peak / MEBIBYTE:.0f} MiB at {share:.0%}" for share, peak in run.resident.items())
    print(
        f"{what}: {run.rows} images in {run.seconds:.0f} s, {run.rows / run.seconds:.0f} a second; peak {held}",
        flush=True,
    )


def main() -> int:
    """Print the report; return 1 if the output is incomplete or memory grows."""
    with tempfile.TemporaryDirectory() as folder, running_server() as server:
        out, at_once = (Path(folder) / f"{name}{SUFFIX}" for name in ("features", "at_once"))
        (Path(folder) / "photos").mkdir()
        good, broken = make_images(Path(folder) / "photos", COUNT)
        print(f"{len(good)} images and {len(broken)} broken ones", flush=True)
        taps = [word for tap in TAPS for word in ("--tap", tap)]
        words = [sys.executable, "-m", "layertap.cli", "extract", str(Path(folder) / "photos"), "--model", MODEL]
        words += [*taps, "--server", server.address, "--out"]
        report("killed in the middle", watch([*words, str(out)], out, kill_at=0.5))
        report("continued", watch([*words, str(out)], out, kill_at=None))
        complete = is_complete(out, good, broken, server.address)
        whole = watch([*words, str(at_once)], at_once, kill_at=None)
        report("without interruption", whole)
        alone = time_client([*good, *broken], server.address)
        ratio = alone / whole.seconds
        print(f"extract_many alone: {alone:.0f} s; the command reaches {ratio:.2f} of this rate (target: at least 0.9)")
        complete = complete and is_complete(at_once, good, broken, server.address)
    grown = whole.resident[LATE] - whole.resident[EARLY]
    print(f"memory grew by {grown / MEBIBYTE:.1f} MiB; {'complete' if complete else 'NOT COMPLETE'}")
    return 0 if complete and grown <= MAX_GROWTH_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
