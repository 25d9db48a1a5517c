"""Which files of a folder are images."""

from __future__ import annotations

from pathlib import Path

import pytest

from layertap.cli._find_images import find_images, images_in
from layertap.cli._output import CommandError

IMAGES = ["b.JPG", "a b/c.jpeg", "a b/ü/x.webp", "a b/ü/x.png", "d.bmp", "e.tif", "f.tiff", "g.gif", "a b.png"]
OTHERS = ["notes.txt", ".hidden.jpg", ".cache/x.jpg", "a b/.x/y.png", "jpg", "a b/c.jpg.part"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*IMAGES, *OTHERS):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


def test_images_of_a_folder_sorted(folder: Path) -> None:
    expected = sorted(str(folder / name) for name in IMAGES)
    assert find_images([str(folder)]) == expected
    assert find_images([f"{folder}/"]) == expected


def test_each_once_files_as_they_are_named(folder: Path) -> None:
    """A file that is named is taken, whatever it is called."""
    named = str(folder / "notes.txt")
    found = find_images([named, str(folder / "a b"), str(folder), named])
    assert found[0] == named
    assert sorted(found) == sorted([named, *(str(folder / name) for name in IMAGES)])


def test_each_once_however_it_is_spelled(folder: Path) -> None:
    assert find_images([str(folder), f"{folder}/../photos"]) == sorted(str(folder / name) for name in IMAGES)
    assert len(images_in([str(folder), f"{folder}/../photos"])) == 2 * len(IMAGES)


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / ".hidden.jpg").touch()
    with pytest.raises(CommandError, match="no images in"):
        images_in([str(tmp_path)])


def test_a_hidden_folder_that_is_named(folder: Path) -> None:
    assert find_images([str(folder / ".cache")]) == [str(folder / ".cache" / "x.jpg")]


def test_what_is_not_there(folder: Path) -> None:
    with pytest.raises(CommandError, match="gone: No such file"):
        find_images([str(folder), "gone"])
