"""Conversion of image files to the pixels of a column, and back.

Pixels are bytes from 0 to 255 in the column's shape (height, width, channels), row by row.
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
MAX_PIXELS: Final = 16_000_000
"""Maximum number of pixels of an image file: the header of a small file may claim an image that fills the memory."""
MAX_SIDE: Final = 8192
"""Maximum width and height in pixels: the cost of scaling grows with the longer side, not with the area."""
MAX_SCANS: Final = 100
"""Maximum number of scans of a JPEG file: each scan of a progressive JPEG takes a few bytes and decodes every pixel
again."""
SCAN: Final = b"\xff\xda"
"""The marker that starts a scan; in pixel data a byte 255 is never followed by this byte."""
MODES: Final = {1: "L", 3: "RGB"}


def size(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG or JPEG file, from its header only; raises DataError like `decode`."""
    with _explained():
        width_and_height: tuple[int, int] = _opened(content).size
    return width_and_height


def decode(content: bytes, shape: tuple[int, ...]) -> bytes:
    """The pixels of a PNG or JPEG file in `shape`, rotated by its EXIF orientation; transparent parts are black.

    An image of another size is stretched to the shape. Raises DataError if the file is neither PNG nor JPEG, or too
    large.
    """
    height, width, channels = shape
    with _explained():
        picture = _opened(content)
        picture.draft(MODES[channels], (width, height))  # lets the JPEG decoder skip detail that is not needed
        upright = ImageOps.exif_transpose(picture)
        if upright.has_transparency_data:
            black = Image.new("RGBA", upright.size, (0, 0, 0, 255))
            upright = Image.alpha_composite(black, upright.convert("RGBA"))
        converted = upright.convert(MODES[channels])
        if converted.size != (width, height):
            converted = converted.resize((width, height), Image.Resampling.LANCZOS)
    pixels: bytes = converted.tobytes()
    return pixels


def _opened(content: bytes) -> Image.Image:
    """The file within the limits, of which only the header is decoded; call it inside `_explained`."""
    picture = Image.open(io.BytesIO(content), formats=FORMATS)
    if picture.width * picture.height > MAX_PIXELS:
        raise DataError(f"The image has more than {MAX_PIXELS / 1e6:g} million pixels", fix="Send a smaller one")
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
    """Convert Pillow's errors to DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the limits above reject decompression bombs
            yield
    except Image.DecompressionBombError as error:  # Pillow's own limit is higher
        raise DataError(
            f"The image has more than {MAX_PIXELS / 1e6:g} million pixels", fix="Send a smaller one"
        ) from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        problem = str(error) if "BytesIO" not in str(error) else "no PNG or JPEG"
        raise DataError(f"The image can't be read: {problem:.100}", fix="Send a whole PNG or JPEG file") from error


def encode(pixels: bytes, shape: tuple[int, ...]) -> bytes:
    """Pixels as a PNG file, which is lossless."""
    content = io.BytesIO()
    picture(pixels, shape).save(content, "PNG", optimize=True)
    return content.getvalue()


def picture(pixels: bytes, shape: tuple[int, ...]) -> Image.Image:
    """Pixels as a Pillow image."""
    height, width, channels = shape
    values = np.frombuffer(pixels, np.uint8).reshape(shape)
    return Image.fromarray(values.reshape(height, width) if channels == 1 else values)
