"""Run the command line as ``python -m layertap.cli``."""

import sys

from layertap.cli import main

sys.exit(main())
