"""The drift that `phaseflow traffic --drift` simulates: dark ink on white paper."""

from __future__ import annotations

import numpy as np
import polars as pl


def simulate(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Images [N] photographed instead of scanned: dark ink on bright paper, with varying light.

    A person still reads every digit; a model trained on bright ink does not.
    """
    pixels = np.frombuffer(b"".join(rows["image"].to_list()), np.uint8).reshape(rows.height, -1)
    light = random.uniform(0.75, 1.0, (rows.height, 1))
    photographed = ((255 - pixels) * light).round().astype(np.uint8)
    return rows.with_columns(image=pl.Series([image.tobytes() for image in photographed], dtype=pl.Binary))
