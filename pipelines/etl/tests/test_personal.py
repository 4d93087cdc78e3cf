"""Personal columns on the way into a snapshot, and what is shown of one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import polars as pl
import pytest

from phaseflow import Column, DataError, Drift, Gate, PlatformError, Project, Schema, personal, registry
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from phaseflow.toolkit import source
from phaseflow.toolkit.holdout import keys
from pipelines.etl.extract import extract
from pipelines.etl.parts import of_base
from pipelines.etl.validate import validate
from pipelines.steps import bins, profile
from pipelines.steps.register import impersonal

TITANIC = registry.get("titanic")


def declared() -> Project:
    """Titanic, whose titles are hashed and whose ages are left out."""
    personal_columns = {"title", "age"}
    features = tuple(
        dataclasses.replace(column, personal=column.name in personal_columns) for column in TITANIC.schema.features
    )
    return dataclasses.replace(
        TITANIC,
        schema=Schema(features=features, target=TITANIC.schema.target),
        drift=Drift(),
        gate=Gate(),
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("PHASEFLOW_OFFLINE", "1")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "personal_key").write_text("key")
    return from_environment()


def validated(project: Project, place: Settings) -> pl.DataFrame:
    store = Store(place.store)
    extract(project, "r", place, store)
    return pl.read_parquet(store.read(validate(project, "r", store)["valid"]))


def test_titles_are_hashed_and_nothing_else_changes(place: Settings) -> None:
    before, after = validated(TITANIC, place), validated(declared(), place)
    hashes = personal.Pseudonyms(declared(), "key")
    assert after["title"].to_list() == [hashes("title", title) for title in before["title"]]
    assert after.drop("title").equals(before.drop("title"))


def test_traffic_and_the_etl_compute_the_same_group_and_a_log_without_ages_too(place: Settings) -> None:
    project = dataclasses.replace(declared(), group="title")
    base = of_base(validated(project, place), project)
    known = source.grouped_rows(source.load(project, place, Store(place.store)), project, place)
    assert known.select("_key", "_group").equals(base.select("_key", "_group"))
    assert known["title"].is_in(["Mr", "Mrs", "Miss", "Master", "Rare"]).all()
    logged = base.with_columns(pl.lit(None, pl.Float64).alias("age"))
    assert keys(logged, project).equals(base["_key"])


def test_without_the_key_nothing_is_kept(place: Settings) -> None:
    (place.secrets / "personal_key").unlink()
    with pytest.raises(PlatformError, match="The secret 'personal_key' is not at"):
        validated(declared(), place)


def test_the_quarantine_holds_no_personal_value(place: Settings) -> None:
    project = declared()
    wrong = dataclasses.replace(project.schema["age"], maximum=30)
    features = tuple(wrong if column.name == "age" else column for column in project.schema.features)
    narrow = dataclasses.replace(project, schema=dataclasses.replace(project.schema, features=features))
    with pytest.raises(DataError, match=r"the first is row .*: age: a personal value fails"):
        validated(narrow, place)
    kept = pl.read_parquet(Store(place.store).read("quarantine/titanic/r.parquet"))
    assert kept.columns == ["row", "reason"]
    assert kept.height > 0


def test_no_value_is_shown(place: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    project = declared()
    rows = validated(project, place).with_columns(pl.lit("base").alias("_origin"))
    shown = impersonal(rows.head(2), project)
    assert shown["age"].to_list() == [None, None]
    assert shown.drop("age").equals(rows.head(2).drop("age"))
    reference = bins.reference(project, rows, rows["survived"].to_list(), {})
    assert {"title", "age"}.isdisjoint(found.feature for found in reference)
    assert {"fare", "sex"} <= {found.feature for found in reference}
    monkeypatch.setattr(profile.registry, "get", lambda _name: project)
    monkeypatch.setattr(profile.data, "split", lambda *_: rows)
    monkeypatch.setattr(
        profile.data, "manifest", lambda *_: {"holdout_rows": 1, "feedback_rows": 0, "source": "sample"}
    )
    missing = profile._missing(rows.with_columns(pl.lit(None).alias("age")), ["age"])
    assert "age" in missing  # the page would name it
    assert "<td>age</td>" not in profile.profile("titanic", "s")


def test_an_earlier_row_that_came_back_is_taken_as_it_was_logged(place: Settings) -> None:
    """The log holds hashes: they are not hashed again."""
    project = declared()
    row = pl.DataFrame({column.name: [None] for column in project.schema.columns}).with_columns(
        pl.lit("ee1ca9f9ff69c4e6cbb4f6ee4a3c9f6a").alias("title")
    )
    assert source.conform(row, project.schema)["title"].to_list() == ["ee1ca9f9ff69c4e6cbb4f6ee4a3c9f6a"]


def test_an_image_cannot_be_left_out() -> None:
    with pytest.raises(Exception, match="it is not nullable"):
        Column(name="face", kind="image", shape=(2, 2, 1), personal=True)
