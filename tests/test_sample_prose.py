"""Test the random sample of docstrings and paragraphs."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

MODULE = '''"""The module's."""
LIMIT = 5
"""Maximum images."""

class Reader:
    """Read files."""

    size: int = 0
    """Bytes read."""

    def read(self) -> None:
        """Read one file.

        All of it.
        """

        def inner() -> None:
            """Help."""

    def plain(self) -> None: ...
'''
PAGE = """# A heading of more than sixty characters, which is no paragraph at all

A paragraph with two lines that together have more
than sixty characters.

```sh
a command that is long enough to be a paragraph but is code, which nobody reads
```

- An item of a list, which is long enough to be read by itself.
- Short.

| a table | with a row that is long enough to be drawn |
"""


@pytest.fixture
def script(tmp_path: Path) -> dict[str, Any]:
    """Return the script's functions, applied to a small repository."""
    found = runpy.run_path(str(ROOT / "scripts" / "sample_prose.py"))
    found["sample"].__globals__["ROOT"] = tmp_path
    return found


def test_docstrings_of_functions_classes_and_attributes_are_found(script: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(MODULE)
    found = {prose.where: prose.text for prose in script["docstrings"](tmp_path / "m.py")}
    assert found == {
        "m.py:2 LIMIT": "Maximum images.",
        "m.py:5 Reader": "Read files.",
        "m.py:8 Reader.size": "Bytes read.",
        "m.py:11 Reader.read": "Read one file.\n\nAll of it.",
        "m.py:17 Reader.read.inner": "Help.",
    }


def test_paragraphs_are_prose_only(script: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "p.md").write_text(PAGE)
    found = {prose.where: prose.text.split()[0] for prose in script["paragraphs"](tmp_path / "p.md")}
    assert set(found.values()) == {"A", "-"}


def test_a_seed_draws_the_same_sample_again() -> None:
    sample = runpy.run_path(str(ROOT / "scripts" / "sample_prose.py"))["sample"]
    assert len(sample(1)) == 80
    assert [prose.text for prose in sample(1)] == [prose.text for prose in sample(1)]
    assert [prose.text for prose in sample(1)] != [prose.text for prose in sample(2)]
