"""The drift that `phaseflow traffic --drift` simulates: thick strokes and rotated images."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy import ndimage

from projects.digits.data import SIDE


def simulate(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Thicken the strokes of the images [N] and rotate them by 40 to 80 degrees to the left."""
    pixels = np.frombuffer(b"".join(rows["image"].to_list()), np.uint8).reshape(rows.height, SIDE, SIDE)
    turned = [
        ndimage.grey_dilation(ndimage.rotate(image, angle, reshape=False, order=1), (3, 3)).tobytes()
        for image, angle in zip(pixels, random.uniform(40, 80, rows.height), strict=True)
    ]
    return rows.with_columns(image=pl.Series(turned, dtype=pl.Binary))
