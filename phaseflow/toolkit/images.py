"""Images: from a file, as people send it, to the pixels of a column, and back.

Pixels are bytes, 0 to 255, of the column's shape (height, width, channels), row by row.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from phaseflow.errors import DataError

FORMATS: Final = ("PNG", "JPEG")
MOST_PIXELS: Final = 16_000_000
"""Of a file that is read: a small file may claim to be a picture that fills the memory."""
MAX_SIDE: Final = 8192
"""Pixels of the width and of the height: what scaling costs grows with the longer side, not with the area."""
MAX_SCANS: Final = 100
"""Of a JPEG file: each scan of a progressive one decodes every pixel again, and takes a few bytes."""
SCAN: Final = b"\xff\xda"
"""Begins a scan; pixels' own 255 is never followed by this byte."""
MODES: Final = {1: "L", 3: "RGB"}


def size(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG or JPEG file, by its header alone; raises DataError as `decode`."""
    with _explained():
        return _opened(content).size


def decode(content: bytes, shape: tuple[int, ...]) -> bytes:
    """The pixels of a PNG or JPEG file, turned as its camera says, in `shape`; transparent parts are black.

    A picture of another size is stretched to the shape. Raises DataError for what is no such file, or too large.
    """
    height, width, channels = shape
    with _explained():
        picture = _opened(content)
        picture.draft(MODES[channels], (width, height))  # a JPEG decoder can leave out what is not needed
        upright = ImageOps.exif_transpose(picture)
        if upright.has_transparency_data:
            black = Image.new("RGBA", upright.size, (0, 0, 0, 255))
            upright = Image.alpha_composite(black, upright.convert("RGBA"))
        found = upright.convert(MODES[channels])
        if found.size != (width, height):
            found = found.resize((width, height), Image.Resampling.LANCZOS)
    return found.tobytes()


def _opened(content: bytes) -> Image.Image:
    """The file with nothing of it decoded but its header, within the limits; to be called within `_explained`."""
    picture = Image.open(io.BytesIO(content), formats=FORMATS)
    if picture.width * picture.height > MOST_PIXELS:
        raise DataError(f"The image has more than {MOST_PIXELS / 1e6:g} million pixels", fix="Send a smaller one")
    if max(picture.size) > MAX_SIDE:
        raise DataError(
            f"The image is {picture.width} x {picture.height} pixels; allowed: {MAX_SIDE} a side",
            fix="Send a smaller one",
        )
    if picture.format == "JPEG" and content.count(SCAN) > MAX_SCANS:
        raise DataError(f"The image has more than {MAX_SCANS} scans", fix="Save it as a baseline JPEG, or as a PNG")
    return picture


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Pillow's errors as DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a bomb is refused by its size
            yield
    except Image.DecompressionBombError as error:  # Pillow's own limit is higher
        raise DataError(
            f"The image has more than {MOST_PIXELS / 1e6:g} million pixels", fix="Send a smaller one"
        ) from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        problem = str(error) if "BytesIO" not in str(error) else "no PNG or JPEG"
        raise DataError(f"The image can't be read: {problem:.100}", fix="Send a whole PNG or JPEG file") from error


def encode(pixels: bytes, shape: tuple[int, ...]) -> bytes:
    """Pixels as a PNG file, which loses nothing."""
    content = io.BytesIO()
    picture(pixels, shape).save(content, "PNG", optimize=True)
    return content.getvalue()


def picture(pixels: bytes, shape: tuple[int, ...]) -> Image.Image:
    """Pixels as Pillow knows them."""
    height, width, channels = shape
    values = np.frombuffer(pixels, np.uint8).reshape(shape)
    return Image.fromarray(values.reshape(height, width) if channels == 1 else values)
