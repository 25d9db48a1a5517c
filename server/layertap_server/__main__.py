"""Entry point of ``python -m layertap_server``, which is the same as ``layertap serve``."""

import sys

from layertap.cli import main

sys.exit(main(["serve", *sys.argv[1:]]))
