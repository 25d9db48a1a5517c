"""``make check-fuzz-models``: 3,000 damaged model files, each loaded by a real server and used where it loads.

Each outcome is a model or a reason; the server lives, and its log has no traceback and no incident.
``LAYERTAP_CHECK_FILES`` is how many files there are, ``LAYERTAP_CHECK_SEED`` another sequence of them.
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
SEED = int(os.environ.get("LAYERTAP_CHECK_SEED", "0"))
SHOWN = 20
ENDED = "failed: the process that reads models"


def main() -> int:
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
