"""Images: from a file, as people send it, to the pixels of a column, and back.

Pixels are bytes, 0 to 255, of the column's shape (height, width, channels), row by row.
"""

from __future__ import annotations

import io
import warnings
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from phaseflow.errors import DataError

FORMATS: Final = ("PNG", "JPEG")
MOST_PIXELS: Final = 16_000_000
"""Of a file that is read: a small file may claim to be a picture that fills the memory."""
MODES: Final = {1: "L", 3: "RGB"}


def decode(content: bytes, shape: tuple[int, ...]) -> bytes:
    """The pixels of a PNG or JPEG file, turned as its camera says, in `shape`; transparent parts are black.

    A picture of another size is stretched to the shape. Raises DataError for what is no such file, or too large.
    """
    height, width, channels = shape
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a bomb is refused below, by its size
            picture = Image.open(io.BytesIO(content), formats=FORMATS)
            if picture.width * picture.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            picture.draft(MODES[channels], (width, height))  # a JPEG decoder can leave out what is not needed
            upright = ImageOps.exif_transpose(picture)
            if upright.has_transparency_data:
                black = Image.new("RGBA", upright.size, (0, 0, 0, 255))
                upright = Image.alpha_composite(black, upright.convert("RGBA"))
            found = upright.convert(MODES[channels])
            if found.size != (width, height):
                found = found.resize((width, height), Image.Resampling.LANCZOS)
    except Image.DecompressionBombError as error:  # Pillow's own limit is higher
        raise DataError(
            f"The image has more than {MOST_PIXELS / 1e6:g} million pixels", fix="Send a smaller one"
        ) from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        said = str(error) if "BytesIO" not in str(error) else "no PNG or JPEG"
        raise DataError(f"The image can't be read: {said:.100}", fix="Send a whole PNG or JPEG file") from error
    return found.tobytes()


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
