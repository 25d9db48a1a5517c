"""Test which files of a folder count as images."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from layertap.cli._find_images import SUFFIXES, find_images, is_image, list_images
from layertap.cli._output import CommandError
from layertap_server.inference.images import FORMATS

IMAGES = [
    *("h.jfif", "i.JPE", "j.dib", "k.apng", "b.JPG", "a b/c.jpeg", "a b/ü/x.webp", "a b/ü/x.png", "d.bmp", "e.tif"),
    *("f.tiff", "g.gif", "a b.png"),
]
OTHERS = ["notes.txt", ".hidden.jpg", ".cache/x.jpg", "a b/.x/y.png", "jpg", "a b/c.jpg.part"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with images and other files."""
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
    """Take a named file whatever its suffix is."""
    named = str(folder / "notes.txt")
    found = find_images([named, str(folder / "a b"), str(folder), named])
    assert found[0] == named
    assert sorted(found) == sorted([named, *(str(folder / name) for name in IMAGES)])


def test_each_once_however_it_is_spelled(folder: Path) -> None:
    assert find_images([str(folder), f"{folder}/../photos"]) == sorted(str(folder / name) for name in IMAGES)
    assert len(list_images([str(folder), f"{folder}/../photos"])) == 2 * len(IMAGES)


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / ".hidden.jpg").touch()
    with pytest.raises(CommandError, match="no images in"):
        list_images([str(tmp_path)])


def test_a_hidden_folder_that_is_named(folder: Path) -> None:
    assert find_images([str(folder / ".cache")]) == [str(folder / ".cache" / "x.jpg")]


def test_what_is_not_there(folder: Path) -> None:
    with pytest.raises(CommandError, match="gone: No such file"):
        find_images([str(folder), "gone"])


def png() -> bytes:
    """Return a small PNG."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("name", ["photo", "photo.dat", "photo.heic", "2024.01.31"])
def test_other_suffixes_or_none_by_the_first_bytes(tmp_path: Path, format_: str, name: str) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / name, format_)
    assert find_images([str(tmp_path)]) == [str(tmp_path / name)]


def test_what_is_skipped_is_counted_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "half.png.crdownload").write_bytes(png())
    (folder / "BMW.csv").write_text("BMW,1\n" * 20)
    (folder / "there").symlink_to(folder / "a b")
    os.mkfifo(folder / "pipe.jpg")
    list_images([str(folder)])
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith(f"layertap: {folder}: 10 files skipped: ")
    for words in (
        "3 not recognized as an image",  # notes.txt, jpg, BMW.csv
        "3 hidden",  # a file and two folders
        "2 still being written",  # and c.jpg.part
        "1 not a regular file",
        "1 a link to a folder",
    ):
        assert words in line
    list_images([str(folder)], quiet=True)
    assert capsys.readouterr().err == ""


def test_nothing_is_said_where_nothing_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(png())
    list_images([str(tmp_path)])
    assert capsys.readouterr().err == ""


def test_a_folder_without_images_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(CommandError, match=r"no images in .*: 1 file skipped: 1 not recognized as an image"):
        list_images([str(tmp_path)])


@pytest.mark.parametrize("start", [b"", b"B", b"BM", b"BM" + b"x" * 16, b"RIFF____WAVE", b"II", b"GIF88a", b"\xff\xd8"])
def test_first_bytes_of_no_image(start: bytes) -> None:
    assert not is_image(start)


def test_every_suffix_of_a_format_that_the_server_reads() -> None:
    """Cover Pillow's suffixes, except those that other programs also use."""
    Image.init()
    suffixes = {suffix for suffix, format_ in Image.registered_extensions().items() if format_ in FORMATS}
    assert suffixes <= SUFFIXES
