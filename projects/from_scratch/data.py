"""Handwritten digits of eight by eight pixels: UCI's file, which scikit-learn ships unchanged."""

from __future__ import annotations

from importlib import resources
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from phaseflow.toolkit.compressed import decompressed

SIDE = 8
INK = 16
"""The file's darkest value."""


def sample(seed: int) -> bytes:  # noqa: ARG001  # the real file is not random
    """UCI's file, byte for byte: one image per line, with 64 pixels of 0 to 16 and the digit."""
    packed = resources.files("sklearn.datasets.data").joinpath("digits.csv.gz").read_bytes()
    return decompressed(packed)


def read(content: bytes) -> pl.DataFrame:
    """`image` (64 bytes of 0 to 255) and `digit` of each line."""
    table = np.loadtxt(content.decode().splitlines(), delimiter=",", dtype=np.float64)
    images = np.rint(table[:, :-1] * 255 / INK).astype(np.uint8)
    return pl.DataFrame(
        {
            "image": pl.Series([image.tobytes() for image in images], dtype=pl.Binary),
            "digit": pl.Series([str(int(digit)) for digit in table[:, -1]], dtype=pl.String),
        }
    )


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """Return the rows unchanged: they already have the schema's columns."""
    return raw
