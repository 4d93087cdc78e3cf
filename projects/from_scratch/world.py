"""The world that `phaseflow traffic --drift` plays: dark pens on white paper."""

from __future__ import annotations

import numpy as np
import polars as pl


def drift(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Images [N] photographed instead of scanned: the ink is dark and the paper bright, and not evenly lit.

    Everything a person sees is still there; a model that has learned bright ink sees nothing it knows.
    """
    pixels = np.frombuffer(b"".join(rows["image"].to_list()), np.uint8).reshape(rows.height, -1)
    light = random.uniform(0.75, 1.0, (rows.height, 1))
    photographed = ((255 - pixels) * light).round().astype(np.uint8)
    return rows.with_columns(image=pl.Series([one.tobytes() for one in photographed], dtype=pl.Binary))
