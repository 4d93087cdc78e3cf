"""The next snapshot contains the labels of the log, within the caps of each client and of all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from phaseflow import discovery
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from phaseflow.toolkit.holdout import in_holdout
from pipelines.etl.caps import row_limits
from pipelines.etl.extract import extract, parquet
from pipelines.etl.snapshot import snapshot
from pipelines.etl.tests.steps import TITANIC, log, part, run, sample_csv, ship_labels, split
from pipelines.etl.validate import validate


def test_feedback_joins_the_next_snapshot(settings: Settings) -> None:
    before = run(settings, sample_csv())
    log(settings, {"r0": "1", "r1": "0", "r2": "1"})
    store = Store(settings.store)
    stranger = pl.DataFrame({"id": ["nobody"], "time": [datetime.now(UTC)], "label": ["1"]})
    store.write(part("feedback", "b"), parquet(stranger))
    corrected = pl.DataFrame({"id": ["r0"], "time": [datetime.now(UTC)], "label": ["0"]})
    store.write(part("feedback", "c"), parquet(corrected))
    store.write(part("feedback", "torn"), b"PAR1 torn")
    after = run(settings, sample_csv(), name="r2")
    assert after["feedback_rows"] == 3
    assert after["snapshot"] != before["snapshot"]
    folder = f"datasets/titanic/{after['snapshot']}"
    rows = pl.concat([pl.read_parquet(store.path(f"{folder}/{side}.parquet")) for side in ("train", "holdout")])
    back = rows.filter(pl.col("_origin") == "feedback").sort("age")
    assert back["survived"].to_list() == ["0", "0", "1"]  # the last label of r0 counts
    manifest = json.loads(store.read(f"{folder}/manifest.json"))
    assert manifest["parent"] == before["snapshot"]


def test_false_labels_of_one_client_stay_below_the_cap_on_both_sides(settings: Settings) -> None:
    """5,000 of them, against 891 base rows."""
    store, plain = Store(settings.store), run(settings, sample_csv())
    ship_labels(store, {"client": ["mallory"] * 5000, "survived": ["1"] * 5000})
    first, again = run(settings, sample_csv(), name="r2"), run(settings, sample_csv(), name="r3")
    assert first["snapshot"] == again["snapshot"]
    before, after = split(store, plain), split(store, first)
    for side, rows in after.items():
        back = rows.filter(pl.col("_origin") == "feedback")
        base = rows.filter(pl.col("_origin") == "base")
        assert base.equals(before[side])  # the trusted rows, which are evaluated separately, are unchanged
        assert back.height == base.height  # half of all rows, so the cap is used up
        assert back["fare"].mean() == pytest.approx(2500, rel=0.15)  # old rows as often as new rows
        assert base["_trusted"].all()
        assert not back["_trusted"].any()
    assert first["feedback_rows"] == 891


def test_a_sent_group_decides_the_side_and_a_named_client_is_trusted(settings: Settings) -> None:
    store = Store(settings.store)
    project = dataclasses.replace(TITANIC, trusted_clients=("shop",))
    groups = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(60)]
    ship_labels(store, {"client": ["shop", ""] * 30, "survived": ["1", "0"] * 30, "group": groups})
    sides = split(store, run(settings, sample_csv(), project=project))
    for side, rows in sides.items():
        back = rows.filter(pl.col("_origin") == "feedback")
        assert back.height > 5
        assert all(in_holdout(group, 0.25) == (side == "holdout") for group in back["_group"])
        assert set(back["_group"]) <= set(groups)
        assert back["_trusted"].equals(back["_client"] == "shop", check_names=False)


def test_anonymous_clients_count_as_one_and_all_clients_have_a_cap(settings: Settings) -> None:
    store = Store(settings.store)
    names = ["", "ann", "ben", "eve"]
    ship_labels(store, {"client": [names[number % 4] for number in range(8000)], "survived": ["1"] * 8000})
    sides = split(store, run(settings, sample_csv()))
    for rows in sides.values():
        assert (rows["_origin"] == "feedback").mean() == pytest.approx(0.8, abs=0.005)
        assert (rows["_origin"] == "feedback").mean() <= 0.8


def test_a_flooding_client_does_not_displace_others(settings: Settings) -> None:
    store = Store(settings.store)
    few = {"client": ["ann"] * 100 + [""] * 5000, "survived": ["0"] * 100 + ["1"] * 5000}
    ship_labels(store, few)
    after = split(store, run(settings, sample_csv()))
    feedback = pl.concat(after.values()).filter(pl.col("_origin") == "feedback")
    assert feedback.filter(pl.col("fare") < 100).height == 100
    assert (feedback["survived"] == "1").sum() <= (feedback.height + 891) / 2


def test_old_logs_without_a_client_are_anonymous(settings: Settings) -> None:
    log(settings, {f"r{number}": "1" for number in range(30)})
    ship_labels(Store(settings.store), {"client": ["ann"] * 5, "survived": ["0"] * 5}, kind="b")
    assert run(settings, sample_csv())["feedback_rows"] == 35


def test_the_caps_hold_on_both_sides_of_a_history(tmp_path: Path) -> None:
    project = discovery.get("recommender")
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})
    store = Store(settings.store)
    extracted = extract(project, "r1", settings, store)
    validate(project, "r1", store)
    base = pl.read_parquet(store.read("staging/recommender/r1/valid.parquet"))
    count, target = 3 * base.height, project.schema.target
    assert target is not None
    again = base.sample(count, with_replacement=True, seed=1)
    times = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number) for number in range(count)]
    ids = [f"a{number}" for number in range(count)]
    features = again.select(project.schema.feature_names)
    hour = "recommender/date=2026-01-01/hour=00/a.parquet"
    store.write(f"predictions/{hour}", parquet(features.with_columns(id=pl.Series(ids), time=pl.Series(times))))
    labels = [f'["new-{number}"]' for number in range(count)]
    feedback = pl.DataFrame({"id": ids, "time": times, "label": labels, "client": ["mallory"] * count})
    store.write(f"feedback/{hour}", parquet(feedback))
    first = snapshot(project, "r1", store, extracted)
    assert snapshot(project, "r1", store, extracted)["snapshot"] == first["snapshot"]
    for rows in split(store, first, "recommender").values():
        assert 0 < (rows["_origin"] == "feedback").mean() <= 0.5


def test_without_a_label_only_the_cap_of_all_rows_holds(tmp_path: Path) -> None:
    project = discovery.get("customer_segments")
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})
    store, count = Store(settings.store), 5000
    rows = pl.DataFrame(
        {"id": [f"a-{number}" for number in range(count)], "time": [datetime(2026, 1, 1, tzinfo=UTC)] * count}
        | {name: list(range(count)) for name in project.schema.feature_names}
    )
    store.write("predictions/customer_segments/date=2026-01-01/hour=00/x.parquet", parquet(rows))
    extracted = extract(project, "r1", settings, store)
    validate(project, "r1", store)
    for rows in split(store, snapshot(project, "r1", store, extracted), "customer_segments").values():
        assert (rows["_origin"] == "feedback").mean() == pytest.approx(0.8, abs=0.01)


@given(
    st.integers(0, 300),
    st.dictionaries(st.sampled_from(["", "a", "b", "c", "d"]), st.integers(1, 500), min_size=1),
    st.floats(0, 1),
    st.floats(0, 1),
)
@hypothesis_settings(max_examples=200, deadline=None)
def test_the_caps_agree_and_are_used_up(base: int, counts: dict[str, int], share: float, each: float) -> None:
    max_total, per_client = row_limits(base, counts, share, each)
    selected = {name: min(count, per_client) for name, count in counts.items()}
    assert 0 <= max_total <= sum(selected.values())
    assert max_total <= share * (base + max_total) + 1e-6 or share == 1
    assert per_client <= each * (base + max_total) + 1e-6
    if max_total < min(sum(selected.values()), 0 if share == 1 else math.floor(base * share / (1 - share))):
        raise AssertionError("more would have been allowed")
