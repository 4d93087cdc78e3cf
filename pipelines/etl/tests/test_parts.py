"""Groups, trust, caps and the split, on frames without a store."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phaseflow import Project, discovery
from phaseflow.toolkit import source
from phaseflow.toolkit.holdout import in_holdout
from phaseflow.toolkit.twins import twins
from pipelines.etl.caps import capped, ranks
from pipelines.etl.parts import COLUMNS, identified, of_base, of_feedback, split

TITANIC = dataclasses.replace(discovery.get("titanic"), group="", holdout_share=0.25)
BY_TICKET = dataclasses.replace(TITANIC, group="Ticket")
TIME = datetime(2026, 1, 1, tzinfo=UTC)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def named(side: str, project: Project = TITANIC) -> str:
    """Return a group of that side."""
    candidates = (digest(f"{number}") for number in range(1000))
    return next(group for group in candidates if in_holdout(group, project.holdout_share) == (side == "holdout"))


def rows(fares: list[float], **columns: list[Any]) -> pl.DataFrame:
    """Return rows of titanic that differ only in their fares."""
    example = {column.name: TITANIC.example.get(column.name) for column in TITANIC.schema.features}
    frame = pl.DataFrame({name: [value] * len(fares) for name, value in example.items()})
    typed = source.conform(
        frame.with_columns(pl.Series("fare", fares, dtype=pl.Float64), survived=pl.lit("1")), TITANIC.schema
    )
    return typed.with_columns(**{name: pl.Series(values, dtype=pl.String) for name, values in columns.items()})


def back(
    fares: list[float], sent: list[str] | None = None, client: str = "", project: Project = TITANIC
) -> pl.DataFrame:
    """Return such rows as feedback, with the groups that clients sent."""
    frame = rows(fares, _id=[f"{client}-{number}-{fare}" for number, fare in enumerate(fares)])
    frame = frame.with_columns(
        _time=pl.lit(TIME).cast(pl.Datetime("us", "UTC")),
        _client=pl.lit(client),
        _sent=pl.Series(sent or [""] * len(fares), dtype=pl.String),
    )
    return of_feedback(identified(frame, project), project)


def base_of(project: Project, count: int = 40) -> pl.DataFrame:
    fares = [float(number) for number in range(count)]
    groups = {"_group": [digest(f"ticket {number // 2}") for number in range(count)]} if project.group else {}
    return of_base(rows(fares, **groups), project)


def test_without_a_group_every_row_stays_where_it_is_today() -> None:
    base = base_of(TITANIC)
    assert base.columns == [*(column.name for column in TITANIC.schema.columns), *COLUMNS]
    assert base["_group"].equals(base["_key"].rename("_group"))
    train, holdout = split(base, base.clear(), TITANIC)
    by_key = [in_holdout(key, 0.25) for key in base["_key"]]
    assert holdout["fare"].to_list() == base.filter(pl.Series(by_key))["fare"].to_list()
    assert train.height + holdout.height == base.height


def test_rows_of_a_raw_group_stay_together_and_the_column_is_no_feature() -> None:
    base = base_of(BY_TICKET)
    assert base["_group"].n_unique() == 20
    assert "Ticket" not in base.columns
    train, holdout = split(base, base.clear(), BY_TICKET)
    assert train.height
    assert holdout.height
    assert not set(train["_group"]) & set(holdout["_group"])


def test_groups_with_equal_rows_are_merged() -> None:
    """A chain: each ticket has a row that equals one of the next ticket's."""
    fares = [float(number // 2) for number in range(1, 41)]
    base = of_base(rows(fares, _group=[digest(f"{number // 2}") for number in range(40)]), BY_TICKET)
    assert base["_group"].unique().to_list() == [digest("0")]
    alone = of_base(rows([1.0, 2.0], _group=[None, digest("a")]), BY_TICKET)
    assert alone["_group"].to_list() == [alone["_key"][0], digest("a")]


@pytest.mark.parametrize("project", [TITANIC, BY_TICKET], ids=["key", "ticket"])
def test_feedback_belongs_to_the_sent_group_or_its_own(project: Project) -> None:
    feedback_rows = back([100.0, 101.0, 102.0], [named("holdout"), named("train"), ""], project=project)
    assert feedback_rows["_group"].to_list() == [named("holdout"), named("train"), feedback_rows["_key"][2]]
    assert feedback_rows.columns == base_of(project).columns


@pytest.mark.parametrize("project", [TITANIC, BY_TICKET], ids=["key", "ticket"])
def test_no_client_moves_a_copy_of_the_source_s_row_to_the_other_side(project: Project) -> None:
    base = base_of(project)
    train, holdout = split(base, base.clear(), project)
    forged = [back(train["fare"].to_list(), [named("holdout")] * train.height, "a", project)]
    forged.append(back(holdout["fare"].to_list(), [named("train")] * holdout.height, "b", project))
    for frame, before in zip(split(base, pl.concat(forged), project), (train, holdout), strict=True):
        assert frame.equals(before)
    honest = [back(side["fare"].to_list(), side["_group"].to_list(), "a", project) for side in (train, holdout)]
    for frame, before in zip(split(base, pl.concat(honest), project), (train, holdout), strict=True):
        assert frame.height > before.height
        assert set(frame["_key"]) == set(before["_key"])


def test_a_group_feature_overrides_the_sent_group() -> None:
    project = dataclasses.replace(discovery.get("driving"), group="road")
    image = bytes(project.schema["image"].size)
    frame = pl.DataFrame(
        {
            "image": [image] * 4,
            "road": ["sand-7", " Sand-7 ", None, "sand-8"],
            "steer": ["[0.0]"] * 4,
            "_id": list("abcd"),
            "_time": [TIME] * 4,
            "_client": [""] * 4,
            "_sent": [named("train"), named("holdout"), named("train"), ""],
        }
    )
    feedback_rows = of_feedback(identified(frame, project), project)
    assert feedback_rows["_group"].to_list() == [
        digest("sand-7"),
        digest("sand-7"),
        feedback_rows["_key"][2],
        digest("sand-8"),
    ]


def test_no_client_puts_a_twin_of_a_held_out_row_among_the_train_rows() -> None:
    base = base_of(TITANIC)
    fares = [200.0, 200.0, 201.0, 201.0]
    sent = [named("train"), named("holdout"), named("train"), named("train")]
    train, holdout = split(base, back(fares, sent), TITANIC)
    assert holdout.filter(pl.col("fare") == 200).height == 1
    assert train.filter(pl.col("fare") == 200).height == 0
    assert train.filter(pl.col("fare") == 201).height == 2
    assert train.filter(pl.col("_origin") == "base").height + holdout.filter(pl.col("_origin") == "base").height == 40
    assert twins(train, holdout, TITANIC) == 0
    # The same row with a rounding error, as from 32-bit floats.
    near, copy = back([200.0 + 1e-6], [named("holdout")]), back([200.0], [named("train")])
    train, holdout = split(base, pl.concat([near, copy]), TITANIC)
    assert train.filter(pl.col("fare") > 199).is_empty()


def test_the_source_and_the_trusted_clients_are_trusted() -> None:
    project = dataclasses.replace(TITANIC, trusted_clients=("shop",))
    base = base_of(project)
    frames = [back([300.0 + index], client=client, project=project) for index, client in enumerate(("shop", "", "eve"))]
    assert base["_trusted"].all()
    assert pl.concat(frames)["_trusted"].to_list() == [True, False, False]
    assert not back([1.0], client="shop")["_trusted"].any()


CLIENTS = st.sampled_from(["", "a", "b", "c"])


@st.composite
def feedback(draw: st.DrawFn) -> pl.DataFrame:
    clients = draw(st.lists(CLIENTS, max_size=120))
    frames = [back([1000.0 + index], client=client) for index, client in enumerate(clients)]
    return pl.concat(frames) if frames else back([])


@given(
    feedback(),
    st.integers(0, 30),
    st.floats(0, 1),
    st.floats(0, 1),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_the_choice_under_the_caps_does_not_depend_on_the_order(
    feedback_rows: pl.DataFrame, count: int, share: float, each: float, random: Any
) -> None:
    project = dataclasses.replace(TITANIC, feedback_share=share, feedback_share_per_client=each)
    base = base_of(project, count)

    def selected_ids(feedback: pl.DataFrame) -> set[str]:
        selected = capped(pl.concat([base, feedback]), project)
        assert selected.filter(pl.col("_origin") == "base").height == base.height
        return set(selected["_id"].drop_nulls())

    whole = selected_ids(feedback_rows)
    order = list(range(feedback_rows.height))
    random.shuffle(order)
    assert selected_ids(feedback_rows[order]) == whole


def test_an_hour_of_new_data_is_half_of_the_sample_after_a_month() -> None:
    """With 50 rows per hour, the newest hour has as much weight as all earlier hours together."""
    begin, hours = 1_800_000_000_000, 720
    moments = [begin + 72_000 * number for number in range(50 * hours)]
    ids = pl.Series("_id", [f"{moment:012x}{number:032x}-0" for number, moment in enumerate(moments)])
    age = pl.Series("age", [(moments[-1] - moment) / 3_600_000 for moment in moments])
    frame = pl.DataFrame([ids, age]).with_columns(ranks(ids, TITANIC)).sort("_rank")
    # The last hour has fewer rows than the cap, so all of them stay, then half of those of the hour before, and so on.
    assert frame.head(200).filter(pl.col("age") < 1).height == pytest.approx(50, abs=5)
    few = frame.head(40)
    assert 0.35 < (few["age"] < 1).mean() < 0.65
    assert (few["age"] > 2).any()
    slow = dataclasses.replace(TITANIC, feedback_half_life_hours=10_000.0)
    spread = pl.DataFrame([ids, age]).with_columns(ranks(ids, slow)).sort("_rank").head(400)
    assert spread["age"].mean() == pytest.approx(360, rel=0.15)


def test_a_rank_depends_only_on_its_id_and_ids_without_a_time_are_oldest() -> None:
    ids = pl.Series(["0" * 43 + "1-0", f"{1_800_000_000_000:012x}{7:032x}-3", "r7", None])
    together = ranks(ids, TITANIC)
    assert [ranks(ids[index : index + 1], TITANIC)[0] for index in range(4)] == together.to_list()
    assert together[1] < together[2]
    assert together[3] is None
