"""Reader of MNIST's files, and scikit-learn's digits in the same format as the offline sample."""

from __future__ import annotations

import struct
from typing import Any, Final

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image
from sklearn.datasets import load_digits

from phaseflow.errors import DataError
from phaseflow.toolkit.compressed import decompressed

SIDE: Final = 28
INK: Final = 20
"""Side of the centred square that contains the ink, as in MNIST."""
DIMENSIONS: Final = {0x0803: 3, 0x0801: 1}
"""Number of dimensions by a file's first four bytes; both are of unsigned bytes."""


def read(*contents: bytes) -> pl.DataFrame:
    """Read `image` (784 bytes, bright ink on black) and `digit`.

    The files alternate between images and labels: first the training files, then the test files.
    """
    arrays = [idx(content) for content in contents]
    images, labels = np.concatenate(arrays[::2]), np.concatenate(arrays[1::2])
    if images.shape != (len(labels), SIDE, SIDE):
        raise DataError(
            f"{len(labels)} labels for images of shape {images.shape}", fix="Download the files again, in MNIST's order"
        )
    return pl.DataFrame(
        {
            "image": pl.Series([image.tobytes() for image in images], dtype=pl.Binary),
            "digit": pl.Series([str(label) for label in labels], dtype=pl.String),
        }
    )


def idx(content: bytes) -> npt.NDArray[np.uint8]:
    """Decode an IDX file, optionally compressed with gzip: a magic number, the size of each dimension, then the values.

    http://yann.lecun.com/exdb/mnist. Raises DataError if the file has another format or is truncated.
    """
    plain = decompressed(content)
    count = DIMENSIONS.get(int.from_bytes(plain[:4], "big"))
    if count is None:
        raise DataError(
            f"The file begins with {plain[:4].hex()}; IDX files of bytes begin with 00000801 or 00000803",
            fix="Download it again",
        )
    sizes = struct.unpack(f">{count}I", plain[4 : 4 + 4 * count])
    values = np.frombuffer(plain, np.uint8, offset=4 + 4 * count)
    if values.size != np.prod(sizes):
        raise DataError(
            f"The file contains {values.size} values for the shape {sizes}",
            fix="Download it again: it may be truncated",
        )
    return values.reshape(sizes)


def packed(values: npt.NDArray[np.uint8]) -> bytes:
    """Encode an array as an IDX file."""
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def sample(seed: int) -> tuple[bytes, ...]:
    """Enlarge UCI's 1,797 digits of 8 x 8 pixels, centred as in MNIST; three quarters form the training files."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.images))
    images = np.zeros((len(order), SIDE, SIDE), np.uint8)
    edge = (SIDE - INK) // 2
    for index, row in enumerate(order):
        small = Image.fromarray((digits.images[row] * 255 / 16).round().astype(np.uint8))
        resized = np.asarray(small.resize((INK, INK), Image.Resampling.BICUBIC))
        images[index, edge : edge + INK, edge : edge + INK] = resized
    labels, cut = digits.target[order].astype(np.uint8), len(order) * 3 // 4
    return tuple(packed(part) for side in (slice(cut), slice(cut, None)) for part in (images[side], labels[side]))


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """Return `raw` unchanged: its columns already match the schema."""
    return raw
