"""Check the architectures that ship with onnx layer by layer and print a table (``make check-models``)."""

from __future__ import annotations

import logging
import sys

from tests.light_models import TOLERANCE, check, names


def main() -> int:
    """Print the table; return 1 if a result or a shape is wrong."""
    logging.disable(logging.WARNING)
    print(f"{'model':<16} {'layers':>6} {'tappable':>8} {'largest error':>14}")
    wrong = 0
    for name in names():
        row = check(name)
        wrong += not row.error <= TOLERANCE or row.shapes_wrong > 0
        shapes = f"  {row.shapes_wrong} shapes are not as listed" if row.shapes_wrong else ""
        print(f"{row.model:<16} {row.layers:>6} {row.tappable:>8} {row.error:>14.1e}{shapes}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
