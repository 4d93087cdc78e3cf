"""The drift that `phaseflow traffic --drift` simulates: images taken at night."""

from __future__ import annotations

import numpy as np
import polars as pl

from projects.detection.project import SHAPE


def simulate(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Darken the images [N] to about a quarter of their brightness, with a blue tint and sensor noise."""
    pixels = np.frombuffer(b"".join(rows["image"].to_list()), np.uint8).reshape(rows.height, *SHAPE)
    light = random.uniform(0.18, 0.3, (rows.height, 1, 1, 1)) * np.array([0.8, 0.9, 1.3])
    noise = random.normal(0, 6, pixels.shape)
    night = (pixels * light + noise).clip(0, 255).astype(np.uint8)
    return rows.with_columns(image=pl.Series([image.tobytes() for image in night], dtype=pl.Binary))
