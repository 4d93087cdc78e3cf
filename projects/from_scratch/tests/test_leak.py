"""What the group of a photographed copy is for: without it the copy of a held-out digit may be trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from phaseflow import registry
from phaseflow.logs import TIME
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit import source, twins
from phaseflow.toolkit.draws import drifted
from pipelines.etl.parts import identified, of_base, of_feedback, split

PROJECT = registry.get("from_scratch")


def share_of_twins(base: pl.DataFrame, played: pl.DataFrame) -> float:
    """Share of the holdout that has a copy, perhaps in another light, among the train rows, after `played` [N] came back."""
    came = played.with_columns(
        _id=pl.Series([f"r{place}" for place in range(played.height)]), _time=pl.lit(None, TIME), _client=pl.lit("")
    )
    train, held = split(base, of_feedback(identified(came, PROJECT), PROJECT), PROJECT)
    return twins.twins(train, held, PROJECT) / held.height


def test_a_copy_whose_group_is_told_stays_on_the_side_of_its_original(tmp_path: Path) -> None:
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})
    known = source.grouped_rows(source.load(PROJECT, settings, Store(settings.store)), PROJECT, settings)
    base = of_base(known.drop("_key", "_group"), PROJECT)
    played = drifted(known, PROJECT, np.random.default_rng(1))
    sent = pl.col("_group").alias("_sent")
    untold = share_of_twins(base, played.with_columns(_sent=pl.lit("")))
    told = share_of_twins(base, played.with_columns(sent))
    assert untold > 0.3
    assert told == 0
