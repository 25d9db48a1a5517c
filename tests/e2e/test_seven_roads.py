"""Test that an image gives the same features, bit by bit, however it is passed.

It is passed as a path, bytes, an open file, a Pillow image, an array of its upright pixels, in a stream, and on the
command line. The files cover every format that is read, every orientation, and every kind of pixel.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from layertap import Client, Features
from layertap.cli import main
from layertap.types import Array
from tests.paths import MODEL, PHOTOS
from tests.processes import ServerProcess

SMALL = "gabor_energy"
TAPS = {SMALL: ["input", "energy | gap"], MODEL: ["input", "embedding"]}
ORIENTATIONS = range(1, 9)


def photo(size: tuple[int, int] = (90, 61)) -> Image.Image:
    """Return a photograph of this size."""
    with Image.open(PHOTOS / "coffee.png") as image:
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def with_alpha() -> Image.Image:
    """Return an image with transparency."""
    image = photo()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def sixteen_bits() -> Image.Image:
    """Return a grey image of 16 bits."""
    gray = np.asarray(photo().convert("L"), np.uint16)
    return Image.fromarray(gray * 256 + gray[::-1])


def frames() -> list[Image.Image]:
    """Return the frames of an animation."""
    return [photo(), ImageOps.invert(photo()), ImageOps.mirror(photo())]


def turned(form: str, orientation: int) -> tuple[str, Image.Image, dict[str, Any]]:
    """Return format, image and options of a file with this orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    size = (1203, 801) if form == "JPEG" else (90, 61)  # large enough for decoding at a reduced scale
    return form, photo(size), {"exif": exif}


def flat(mode: str) -> Image.Image:
    """Return an image of one colour, such as a photograph of the sky."""
    image = photo().convert(mode)
    image.paste(77 if mode == "L" else (77, 8, 9), (10, 10, 60, 40))
    return image


FILES: dict[str, tuple[str, Image.Image, dict[str, Any]]] = {
    f"{form} turned {orientation}": turned(form, orientation)
    for form in ("JPEG", "PNG", "WEBP", "TIFF")
    for orientation in ORIENTATIONS
} | {
    "JPEG grey": ("JPEG", photo((900, 700)).convert("L"), {}),
    "JPEG CMYK": ("JPEG", photo((900, 700)).convert("CMYK"), {}),
    "JPEG progressive": ("JPEG", photo((900, 700)), {"progressive": True, "subsampling": "4:2:0"}),
    "PNG palette": ("PNG", photo().quantize(64), {}),
    "PNG palette, a transparent colour": ("PNG", photo().quantize(16), {"transparency": 3}),
    "PNG palette, alpha for each colour": ("PNG", photo().quantize(16), {"transparency": bytes(range(0, 256, 16))}),
    "PNG RGB, a transparent colour": ("PNG", flat("RGB"), {"transparency": (77, 8, 9)}),
    "PNG grey, a transparent value": ("PNG", flat("L"), {"transparency": 77}),
    "PNG RGBA": ("PNG", with_alpha(), {}),
    "PNG LA": ("PNG", with_alpha().convert("LA"), {}),
    "PNG 16 bits": ("PNG", sixteen_bits(), {}),
    "PNG 1 bit": ("PNG", photo().convert("1"), {}),
    "WEBP RGBA": ("WEBP", with_alpha(), {"lossless": True}),
    "WEBP animated": ("WEBP", frames()[0], {"save_all": True, "append_images": frames()[1:]}),
    "TIFF CMYK": ("TIFF", photo().convert("CMYK"), {}),
    "TIFF palette": ("TIFF", photo().quantize(64), {}),
    "TIFF 16 bits": ("TIFF", sixteen_bits(), {"compression": "tiff_lzw"}),
    "TIFF pages": ("TIFF", frames()[0], {"save_all": True, "append_images": frames()[1:]}),
    "BMP": ("BMP", photo(), {}),
    "BMP 1 bit": ("BMP", photo().convert("1"), {}),
    "BMP palette": ("BMP", photo().quantize(64), {}),
    "GIF": ("GIF", photo().quantize(64), {}),
    "GIF transparent": ("GIF", photo().quantize(16), {"transparency": 3}),
    "GIF animated": ("GIF", frames()[0], {"save_all": True, "append_images": frames()[1:]}),
}
OF_A_LARGE_MODEL = [
    *("JPEG turned 1", "JPEG turned 6", "JPEG CMYK", "PNG 16 bits", "PNG RGB, a transparent colour"),
    *("WEBP turned 5", "TIFF turned 8", "GIF transparent"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write all files and return their folder."""
    folder = tmp_path_factory.mktemp("files")
    for name, (form, image, options) in FILES.items():
        image.save(folder / f"{name}.{form.lower()}", form, **options)
    return folder


def upright_pixels(image: Image.Image) -> Array:
    """Return the upright pixels with Pillow, as the docs describe."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return (np.asarray(image) // 257).astype(np.uint8)
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def by_path(client: Client, path: Path, model: str) -> Features:
    """Pass the path."""
    return client.extract(path, model=model, taps=TAPS[model])


def by_bytes(client: Client, path: Path, model: str) -> Features:
    """Pass the bytes."""
    return client.extract(path.read_bytes(), model=model, taps=TAPS[model])


def by_file(client: Client, path: Path, model: str) -> Features:
    """Pass an open file."""
    with path.open("rb") as file:
        return client.extract(file, model=model, taps=TAPS[model])


def by_pillow(client: Client, path: Path, model: str) -> Features:
    """Pass a lazily opened Pillow image."""
    with Image.open(path) as image:
        return client.extract(image, model=model, taps=TAPS[model])


def by_loaded_pillow(client: Client, path: Path, model: str) -> Features:
    """Pass a copy of a loaded Pillow image."""
    with Image.open(path) as image:
        image.load()
        return client.extract([image.copy()], model=model, taps=TAPS[model])


def by_array(client: Client, path: Path, model: str) -> Features:
    """Pass an array of the upright pixels."""
    with Image.open(path) as image:
        return client.extract(upright_pixels(image), model=model, taps=TAPS[model])


def by_stream(client: Client, path: Path, model: str) -> Features:
    """Pass the path in a stream."""
    (item,) = client.extract_many([path], model=model, taps=TAPS[model])
    assert item.features is not None, item.error
    return item.features


ROADS: list[Callable[[Client, Path, str], Features]] = [
    by_bytes,
    by_file,
    by_pillow,
    by_loaded_pillow,
    by_array,
    by_stream,
]


def by_command(server: ServerProcess, path: Path, model: str) -> Features:
    """Use the command line."""
    out = path.with_suffix(".npz")
    taps = [word for tap in TAPS[model] for word in ("-t", tap)]
    assert main(["extract", str(path), "-m", model, *taps, "-o", str(out), "--server", server.address]) == 0
    return Features.load(out)


CASES = [pytest.param(SMALL, name, id=name) for name in FILES]
CASES += [pytest.param(MODEL, name, id=f"{name}, {MODEL}") for name in OF_A_LARGE_MODEL]


@pytest.mark.parametrize(("model", "name"), CASES)
def test_the_same_by_every_road(server: ServerProcess, client: Client, folder: Path, model: str, name: str) -> None:
    path = folder / f"{name}.{FILES[name][0].lower()}"
    expected = by_path(client, path, model)
    got = {road.__name__: road(client, path, model) for road in ROADS}
    got["by_command"] = by_command(server, path, model)
    for road, features in got.items():
        for tap in TAPS[model]:
            assert features[tap].tobytes() == expected[tap].tobytes(), f"{road}: {tap}"


def test_every_orientation_is_the_same_picture(client: Client, folder: Path) -> None:
    """Compare a file with an orientation tag with the same pixels stored upright."""
    for orientation in ORIENTATIONS:
        path = folder / f"PNG turned {orientation}.png"
        with Image.open(path) as image:
            ImageOps.exif_transpose(image).save(upright := io.BytesIO(), "PNG")
        expected = client.extract(upright.getvalue(), model=SMALL, taps=TAPS[SMALL])
        got = by_path(client, path, SMALL)
        assert all(np.array_equal(got[tap], expected[tap]) for tap in TAPS[SMALL])


def test_the_first_frame_counts(client: Client, folder: Path) -> None:
    for name in ("WEBP animated.webp", "TIFF pages.tiff", "GIF animated.gif"):
        with Image.open(folder / name) as image:
            assert getattr(image, "n_frames", 1) == 3
            first = np.asarray(image.convert("RGB"))
        expected = client.extract(first, model=SMALL, taps="input")["input"]
        np.testing.assert_array_equal(client.extract(folder / name, model=SMALL, taps="input")["input"], expected)
