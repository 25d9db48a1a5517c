"""Write tests/sweeps.txt, the list of slow tests that `make test` leaves out, from reports of pytest.

    .venv/bin/python -m pytest … --junitxml=build/report.xml
    .venv/bin/python scripts/make_sweeps.py build/report.xml

Of a test with several cases, the fastest case stays. Tests that the reports lack, such as those listed already, keep
their place.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree as ET

SLOW_SECONDS = {"tests/e2e": 3.0, "": 1.2}
"""Seconds from which a test is slow, by folder; "" for all other folders."""
TARGET = Path(__file__).parents[1] / "tests" / "sweeps.txt"
HEADING = "# Slow tests, which `make check-sweeps` and `make coverage` run. Written by scripts/make_sweeps.py.\n"


def durations(report: Path) -> dict[str, float]:
    """Return the seconds of each test of a report, by node id."""
    found = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - our own report
        module = case.get("classname", "").replace(".", "/") + ".py"
        found[f"{module}::{case.get('name')}"] = float(case.get("time", 0))
    return found


def slow_tests(seconds: dict[str, float]) -> list[str]:
    """Return the node ids of the slow tests, without the fastest case of each."""
    cases: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for node, time in seconds.items():
        cases[node.partition("[")[0]].append((time, node))
    slow = []
    for function, timed in cases.items():
        limit = next(limit for folder, limit in SLOW_SECONDS.items() if function.startswith(folder))
        fastest = min(timed)[1] if len(timed) > 1 and min(timed)[0] < 2 * limit else ""
        slow += [node for time, node in timed if time >= limit and node != fastest]
    return sorted(slow)


if __name__ == "__main__":
    timed = {node: time for report in sys.argv[1:] for node, time in durations(Path(report)).items()}
    listed = [line for line in TARGET.read_text().splitlines() if not line.startswith("#") and line not in timed]
    TARGET.write_text(HEADING + "".join(f"{node}\n" for node in sorted({*listed, *slow_tests(timed)})))
    print(f"wrote {TARGET}")
