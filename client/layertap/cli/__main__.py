"""``python -m layertap.cli``: the same as ``layertap``."""

import sys

from layertap.cli import main

sys.exit(main())
