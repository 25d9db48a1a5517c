"""Load 3,000 damaged model files into a real server, and use those that load (``make check-fuzz-models``).

Each file must give a model or a failure with a reason. The server must survive, and its log must contain no traceback
and no incident. ``LAYERTAP_CHECK_FILES`` sets the number of files, ``LAYERTAP_CHECK_SEED`` the sequence.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path

from layertap import Client
from tests.fuzz_models import check, damaged
from tests.processes import running_server

COUNT = int(os.environ.get("LAYERTAP_CHECK_FILES", "3000"))
"""Number of files."""
SEED = int(os.environ.get("LAYERTAP_CHECK_SEED", "0"))
"""Seed of the sequence."""
SHOWN = 20
"""Maximum reasons and faults to print."""
ENDED = "failed: the process that reads models"
"""Start of the reason of a model that ended the process which read it."""


def main() -> int:
    """Print the outcomes; return 1 if there are faults or a file has no outcome."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--control", "--load-seconds", "20", "--plan-cache-bytes", "1"]
        with running_server(*flags, models=Path(folder)) as server:
            with Client(server.address, timeout_seconds=120) as client:
                outcome = check(server, client, Path(folder), damaged(COUNT, SEED))
            log = server.log.read_text(errors="replace")
    outcome.faults += re.findall(r".*(?:incident|Traceback)(?:.*\n +.*)*", log)
    failed = sum(outcome.reasons.values())
    ended = sum(count for reason, count in outcome.reasons.items() if ENDED in reason)
    print(f"{COUNT} files in {time.monotonic() - begun:.0f} s: {outcome.ready} models, {failed} failed with a reason")
    print(f"{ended} of these ended the process that read them")
    for reason, count in sorted(outcome.reasons.items(), key=lambda item: -item[1])[:SHOWN]:
        print(f"{count:>6}  {reason}")
    print(f"{len(outcome.faults)} faults", *outcome.faults[:SHOWN], sep="\n")
    return 1 if outcome.faults or outcome.ready + failed < COUNT else 0


if __name__ == "__main__":
    sys.exit(main())
