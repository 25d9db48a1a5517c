"""Triton: the labels that ``config.pbtxt`` names."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from layertap_server.models.sources.found import Beside, Found, SourceError

CONFIG = "config.pbtxt"
LABELS = re.compile(r'^\s*label_filename\s*:\s*"([^"]*)"', re.MULTILINE)
COMMENT = re.compile(r"(?m)#.*$")


def read(beside: Beside) -> Found | None:
    """Read the file of class names that the first output names."""
    text = beside.text(CONFIG)
    if text is None:
        return None
    named = LABELS.search(COMMENT.sub("", text).replace("{", "{\n").replace(",", ",\n"))
    if named is None:
        return None
    name = named[1]
    if not name or PurePosixPath(name).name != name:
        raise SourceError(f"label_filename {name!r} lies in another folder")
    labels = beside.text(name)
    if labels is None:
        raise SourceError(f"there is no file {name}, which label_filename names")
    return Found(f"{CONFIG}, {name}", labels=tuple(labels.rstrip("\n").split("\n")))
