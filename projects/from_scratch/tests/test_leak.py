"""The group of a photographed copy prevents training on copies of holdout digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from phaseflow import discovery
from phaseflow.logs import TIME
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit import source, twins
from phaseflow.toolkit.draws import drifted
from pipelines.etl.parts import identified, of_base, of_feedback, split

PROJECT = discovery.get("from_scratch")


def share_of_twins(base: pl.DataFrame, drifted_rows: pl.DataFrame) -> float:
    """The share of the holdout with a copy among the train rows, after feedback on `drifted_rows` [N]."""
    returned = drifted_rows.with_columns(
        _id=pl.Series([f"r{index}" for index in range(drifted_rows.height)]),
        _time=pl.lit(None, TIME),
        _client=pl.lit(""),
    )
    train, holdout = split(base, of_feedback(identified(returned, PROJECT), PROJECT), PROJECT)
    return twins.twins(train, holdout, PROJECT) / holdout.height


def test_a_copy_sent_with_its_group_stays_on_the_side_of_its_original(tmp_path: Path) -> None:
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})
    rows = source.grouped_rows(source.load(PROJECT, settings, Store(settings.store)), PROJECT, settings)
    base = of_base(rows.drop("_key", "_group"), PROJECT)
    drifted_rows = drifted(rows, PROJECT, np.random.default_rng(1))
    sent = pl.col("_group").alias("_sent")
    without_group = share_of_twins(base, drifted_rows.with_columns(_sent=pl.lit("")))
    with_group = share_of_twins(base, drifted_rows.with_columns(sent))
    assert without_group > 0.3
    assert with_group == 0
