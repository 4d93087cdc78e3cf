"""No row changes sides, whatever is added."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from phaseflow.settings import Settings
from phaseflow.store import Store
from phaseflow.toolkit import source
from phaseflow.toolkit.holdout import in_holdout, row_hashes, train_holdout_split
from pipelines.etl.tests.steps import TITANIC, log, run, sample_csv


def test_no_row_changes_sides_when_rows_are_added(settings: Settings) -> None:
    def train_holdout_split(result: dict[str, Any]) -> dict[str, str]:
        store = Store(settings.store)
        return {
            key: side
            for side in ("train", "holdout")
            for key in pl.read_parquet(store.path(f"datasets/titanic/{result['snapshot']}/{side}.parquet"))["_key"]
        }

    before = train_holdout_split(run(settings, sample_csv()))
    log(settings, {f"r{number}": "1" for number in range(40)})
    after = train_holdout_split(run(settings, sample_csv(), name="r2"))
    assert before.items() <= after.items()
    assert set(after.values()) == {"train", "holdout"}


@given(st.floats(0.05, 0.5), st.integers(0, 1000))
@hypothesis_settings(max_examples=20, deadline=None)
def test_the_holdout_has_its_share_and_grows_with_it(share: float, seed: int) -> None:
    digests = [hashlib.sha256(f"{seed} {number}".encode()).hexdigest() for number in range(4000)]
    holdout = [key for key in digests if in_holdout(key, share)]
    assert len(holdout) / len(digests) == pytest.approx(share, abs=0.04)
    assert all(in_holdout(key, share + 0.1) for key in holdout)


def history(users: list[str], share: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return both sides of a history of distinct rows."""
    rows = pl.DataFrame(
        {"user": users, "_key": [hashlib.sha256(f"{index}".encode()).hexdigest() for index in range(len(users))]}
    ).with_row_index("position")
    return train_holdout_split(rows, SimpleNamespace(temporal_group="user", holdout_share=share))  # type: ignore[arg-type]


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=60), st.floats(0.05, 0.5))
@hypothesis_settings(max_examples=40, deadline=None)
def test_the_newest_rows_of_a_history_are_held_out_and_stay_so(users: list[str], share: float) -> None:
    train, holdout = history(users, share)
    assert train.height + holdout.height == len(users)
    for user in set(users):
        train_positions, holdout_positions = (
            side.filter(pl.col("user") == user)["position"].to_list() for side in (train, holdout)
        )
        assert not train_positions or not holdout_positions or max(train_positions) < min(holdout_positions)
        assert (
            len(holdout_positions) >= share * len(train_positions + holdout_positions)
            or len(train_positions + holdout_positions) == 1
        )
    before = history(users[:-1], share)[0]["position"].to_list()
    assert set(before) <= set(train["position"].to_list())


def test_a_repeated_row_of_a_history_counts_once() -> None:
    rows = pl.DataFrame({"user": ["a"] * 5, "_key": ["1" * 64, "2" * 64, "1" * 64, "3" * 64, "2" * 64]})
    train, holdout = train_holdout_split(rows, SimpleNamespace(temporal_group="user", holdout_share=0.2))  # type: ignore[arg-type]
    assert train["_key"].to_list() == ["1" * 64, "2" * 64]
    assert holdout["_key"].to_list() == ["3" * 64]


@given(st.lists(st.tuples(st.floats(0, 120) | st.none(), st.sampled_from(["male", "female"])), min_size=2, max_size=20))
@hypothesis_settings(max_examples=30, deadline=None)
def test_equal_rows_have_equal_keys_and_others_have_not(cells: list[tuple[float | None, str]]) -> None:
    count = len(cells)
    rows = pl.DataFrame(
        {
            column.name: pl.Series([TITANIC.example.get(column.name)] * count, dtype=source.dtype(column))
            for column in TITANIC.schema.features
        }
    ).with_columns(age=pl.Series([age for age, _ in cells], dtype=pl.Float64), sex=pl.Series([sex for _, sex in cells]))
    hashes = row_hashes(rows, TITANIC).to_list()
    for left in range(count):
        for right in range(count):
            assert (hashes[left] == hashes[right]) == (cells[left] == cells[right])
