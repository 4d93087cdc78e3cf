"""MNIST's files, and where they are out of reach scikit-learn's digits in the same format."""

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
"""Side of the square in an image's middle that holds the ink, as LeCun's team placed it."""
DIMENSIONS: Final = {0x0803: 3, 0x0801: 1}
"""Dimensions by a file's first four bytes: unsigned bytes of that many."""


def read(*contents: bytes) -> pl.DataFrame:
    """`image` (784 bytes, bright ink on black) and `digit`: images and labels in turn, training files and then test files."""
    arrays = [idx(content) for content in contents]
    images, labels = np.concatenate(arrays[::2]), np.concatenate(arrays[1::2])
    if images.shape != (len(labels), SIDE, SIDE):
        raise DataError(
            f"{len(labels)} labels for images of shape {images.shape}", fix="Get the files again, in MNIST's order"
        )
    return pl.DataFrame(
        {
            "image": pl.Series([one.tobytes() for one in images], dtype=pl.Binary),
            "digit": pl.Series([str(one) for one in labels], dtype=pl.String),
        }
    )


def idx(content: bytes) -> npt.NDArray[np.uint8]:
    """The array of an IDX file, packed by gzip or not: a magic number, the size of each dimension, then the bytes.

    http://yann.lecun.com/exdb/mnist. Raises DataError where it is another file, or cut off.
    """
    plain = decompressed(content)
    count = DIMENSIONS.get(int.from_bytes(plain[:4], "big"))
    if count is None:
        raise DataError(
            f"The file begins with {plain[:4].hex()}; IDX files of bytes with 00000801 or 00000803", fix="Get it again"
        )
    sizes = struct.unpack(f">{count}I", plain[4 : 4 + 4 * count])
    values = np.frombuffer(plain, np.uint8, offset=4 + 4 * count)
    if values.size != np.prod(sizes):
        raise DataError(f"The file holds {values.size} bytes for {sizes}", fix="Get it again: it looks cut off")
    return values.reshape(sizes)


def packed(values: npt.NDArray[np.uint8]) -> bytes:
    """An array as an IDX file."""
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def sample(seed: int) -> tuple[bytes, ...]:
    """UCI's 1,797 digits of 8 x 8 pixels, enlarged and centred as in MNIST; three quarters are the training files."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.images))
    images = np.zeros((len(order), SIDE, SIDE), np.uint8)
    edge = (SIDE - INK) // 2
    for place, row in enumerate(order):
        small = Image.fromarray((digits.images[row] * 255 / 16).round().astype(np.uint8))
        resized = np.asarray(small.resize((INK, INK), Image.Resampling.BICUBIC))
        images[place, edge : edge + INK, edge : edge + INK] = resized
    labels, cut = digits.target[order].astype(np.uint8), len(order) * 3 // 4
    return tuple(packed(part) for side in (slice(cut), slice(cut, None)) for part in (images[side], labels[side]))


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """The columns are the schema's already."""
    return raw
