"""A snapshot that extends an earlier one equals a snapshot of all retained rows."""

from __future__ import annotations

import dataclasses
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phaseflow import PermanentError, discovery, logs
from phaseflow.contract import Project
from phaseflow.store import Store
from pipelines.etl import state as states
from pipelines.etl import update
from pipelines.etl.compact import compact
from pipelines.etl.parts import identified, of_base, of_feedback, split
from pipelines.etl.tests.world import TITANIC, World, base, small

CLIENTS = ("", "ann", "mallory")
GROUPS = ("", "1" * 64, "e" * 64)
"""No group, a holdout group, and a training group."""


def rows(project: Project, source: pl.DataFrame, state: states.State) -> pl.DataFrame:
    back = states.candidates(state, states.limits(source, project))
    return pl.concat(split(source, source.clear() if back.is_empty() else of_feedback(back, project), project))


def whole(world: World, source: pl.DataFrame) -> pl.DataFrame:
    state, why = update.current(world.project, world.store, source, None, world.now)
    assert why
    return rows(world.project, source, state)


def by_definition(world: World, source: pl.DataFrame) -> pl.DataFrame:
    """Return the snapshot by definition, computed from all rows in one frame."""
    frames: dict[str, list[pl.DataFrame]] = {"predictions": [], "feedback": []}
    for kind, kind_frames in frames.items():
        for key in world.store.keys(f"{kind}/{world.project.name}"):
            if key.endswith(".parquet"):
                kind_frames.append(pl.read_parquet(world.store.path(key)))
    if not frames["feedback"] or not frames["predictions"]:
        return pl.concat(split(source, source.clear(), world.project))
    labels = pl.concat(frames["feedback"]).sort("time", "client", "group", "label").unique("id", keep="last")
    predictions = pl.concat(frames["predictions"]).unique("id")
    both = predictions.join(labels.rename({"time": "at"}), on="id").sort("time", "id")
    names = world.project.schema.feature_names
    back = both.select(
        *names,
        pl.col("label").alias("survived"),
        pl.col("id").alias("_id"),
        pl.col("time").alias("_time"),
        pl.col("client").alias("_client"),
        pl.col("group").alias("_sent"),
    ).with_columns(pl.col(name).cast(source.schema[name]) for name in names)
    return pl.concat(split(source, of_feedback(identified(back, world.project), world.project), world.project))


turns = st.lists(
    st.fixed_dictionaries(
        {
            "minutes": st.sampled_from([0.5, 7, 20, 55, 130, 400]),
            "predict": st.integers(0, 9),
            "hold_predictions": st.booleans(),
            "labels": st.lists(
                st.tuples(
                    st.integers(0, 60),
                    st.sampled_from("01"),
                    st.sampled_from(CLIENTS),
                    st.sampled_from(GROUPS),
                    st.booleans(),
                ),
                max_size=5,
            ),
            "release": st.booleans(),
            "compact": st.booleans(),
            "forget": st.sampled_from([False, False, False, True]),
            "snapshot": st.booleans(),
            "grow": st.sampled_from([0, 0, 0, 2, 9]),
        }
    ),
    min_size=2,
    max_size=7,
)


@given(turns)
@settings(max_examples=25, deadline=None)
def test_an_extended_snapshot_equals_one_of_all_retained_rows(turns: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(update, "SPARE", 1)
        world, count = World(Store(folder), small()), 12
        state: states.State | None = None
        future: list[str] = []
        for turn in turns:
            world.pass_(turn["minutes"])
            future += world.predict(turn["predict"], hold=turn["hold_predictions"]) if turn["predict"] else []
            for start, label, client, group, hold in turn["labels"]:
                if world.ids:
                    few = [world.ids[(start + step) % len(world.ids)] for step in range(4)]
                    world.label(sorted(set(few)), label, client, group=group, hold=hold)
            if turn["release"]:
                world.release()
            if turn["compact"]:
                compact(world.project, world.store, world.now)
            if turn["forget"]:
                world.forget_first_hour()
            count += turn["grow"]
            source = of_base(base(world.project, count), world.project)
            if turn["snapshot"]:
                state, _ = update.current(world.project, world.store, source, state, world.now)
                state = states.from_parquet(states.to_parquet(state), "the state")
                expected = by_definition(world, source)
                assert rows(world.project, source, state).equals(expected)
                assert whole(world, source).equals(expected)


def filled(folder: Path, **changes: Any) -> tuple[World, pl.DataFrame, states.State]:
    """Return an hour of labels far above the caps, and the state after it."""
    world = World(Store(str(folder)), small(**changes))
    source = of_base(base(world.project, 40), world.project)
    for client in CLIENTS:
        world.label(world.predict(3000), "1", client)
    world.pass_(5)
    state, why = update.current(world.project, world.store, source, None, world.now)
    assert why == "no earlier snapshot has a state"
    return world, source, state


def test_a_state_holds_a_bounded_number_of_rows_and_its_thresholds(tmp_path: Path) -> None:
    world, source, state = filled(tmp_path)
    max_rows = states.limits(source, world.project)
    assert {side for side, _ in state.thresholds} == {"train"}
    for (side, client), count in states.counts(state.rows).items():
        assert count <= (max_rows[side] or 0) * states.SLACK + states.SPARE, client
    assert states.suffices(state, max_rows)


def test_only_the_hours_since_the_watermark_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, source, state = filled(tmp_path)
    for _ in range(30):
        world.pass_(60)
        world.label(world.predict(5), "0", "ann")
    state, _ = update.current(world.project, world.store, source, state, world.now)
    world.pass_(70)
    world.label(world.predict(5), "0", "ann")
    prefixes: list[str] = []
    entries = Store.entries
    monkeypatch.setattr(Store, "entries", lambda self, prefix: prefixes.append(prefix) or entries(self, prefix))
    monkeypatch.setattr(logs, "all_hours", lambda *_: pytest.fail("it lists the whole log"))
    state, why = update.current(world.project, world.store, source, state, world.now)
    assert why == ""
    recent = {logs.folder(kind, "titanic", world.now - timedelta(hours=age)) for age in range(3) for kind in logs.KINDS}
    begin = {logs.folder(kind, "titanic", world.now.replace(day=1, hour=12)) for kind in logs.KINDS}
    assert set(prefixes) <= recent | begin | {"erased/titanic"}  # the first hour shows what is retained
    monkeypatch.undo()
    assert rows(world.project, source, state).equals(by_definition(world, source))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"feedback_share": 0.97, "feedback_share_per_client": 0.97}, "the caps allow more rows"),
        ({"holdout_share": 0.4}, "the declaration has changed"),
        ({"feedback_half_life_hours": 24.0}, "the declaration has changed"),
    ],
)
def test_all_rows_are_read_if_the_state_does_not_suffice(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    world, source, state = filled(tmp_path)
    world.project = dataclasses.replace(world.project, **change)
    state, reason = update.current(world.project, world.store, source, state, world.now)
    assert reason.startswith(why)
    assert rows(world.project, source, state).equals(by_definition(world, source))


def test_labels_with_ids_of_earlier_releases_find_predictions_within_a_day(tmp_path: Path) -> None:
    world = World(Store(str(tmp_path)), small())
    source = of_base(base(world.project, 40), world.project)
    state, _ = update.current(world.project, world.store, source, None, world.now)
    early = world.predict(2, old=True)
    world.pass_(20 * 60)
    late = world.predict(2, old=True)
    world.label(["nobody", *early, *late], "1", "ann")
    state, _ = update.current(world.project, world.store, source, state, world.now)
    assert set(state.rows["_id"]) == {*early, *late}
    assert state.pending["id"].to_list() == ["nobody"]
    world.pass_(26 * 60)
    world.label(early, "0", "ann")
    state, _ = update.current(world.project, world.store, source, state, world.now)
    assert state.pending.is_empty()
    assert state.rows.filter(pl.col("_id").is_in(early))["_label"].to_list() == ["0", "0"]


def test_too_many_labels_without_a_prediction_are_not_kept_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(update, "MAX_PENDING", 10)
    world = World(Store(str(tmp_path)), small())
    source = of_base(base(world.project, 40), world.project)
    moment = int(world.now.timestamp() * 1000)
    world.label([f"{moment:012x}{number:032x}-0" for number in range(50)], "1", "mallory")
    state, _ = update.current(world.project, world.store, source, None, world.now)
    assert state.pending.height == 10
    _, why = update.current(world.project, world.store, source, state, world.now)
    assert why == "too many labels wait for their prediction"


def test_a_state_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, state = filled(tmp_path)
    content = states.to_parquet(state)
    monkeypatch.setattr(states.formats, "STATE", 2)
    with pytest.raises(PermanentError, match="has the format 1; this release reads format 2"):
        states.from_parquet(content, "the state")


@pytest.mark.parametrize("name", ["customer_segments", "recommender"])
def test_snapshots_without_a_target_and_of_histories_are_extended(tmp_path: Path, name: str) -> None:
    project = dataclasses.replace(discovery.get(name), feedback_share=0.5)
    world = World(Store(str(tmp_path)), project)
    example = pl.DataFrame([dict(project.example)] * 40)
    target = project.schema.target
    if target is not None:
        example = example.with_columns(pl.lit('["a"]').alias(target.name))
    source = of_base(example.select([column.name for column in project.schema.columns]), project)
    state: states.State | None = None
    for turn in range(4):
        ids = world.predict(300, hold=turn == 1)
        if target is not None:
            world.label(ids, f'["item-{turn}"]', "ann")
        world.pass_(50)
        if turn == 2:
            world.release()
        state, _ = update.current(project, world.store, source, state, world.now)
    assert state is not None
    assert 0 < state.rows.height < 1200
    again, _ = update.current(project, world.store, source, None, world.now)
    assert rows(project, source, state).equals(rows(project, source, again))
    assert TITANIC.temporal_group == ""
