"""Personal columns in snapshots and in what is displayed of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import polars as pl
import pytest

from phaseflow import Column, DataError, Drift, Gate, PlatformError, Project, Schema, discovery, personal
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from phaseflow.toolkit import source
from phaseflow.toolkit.holdout import row_hashes
from pipelines.etl.extract import extract
from pipelines.etl.parts import of_base
from pipelines.etl.validate import validate
from pipelines.steps import bins, profile
from pipelines.steps.register import impersonal

TITANIC = discovery.get("titanic")


def declared() -> Project:
    """Return titanic with hashed titles and without ages."""
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
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("PHASEFLOW_OFFLINE", "1")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "personal_key").write_text("key")
    return from_environment()


def validated(project: Project, settings: Settings) -> pl.DataFrame:
    store = Store(settings.store)
    extract(project, "r", settings, store)
    return pl.read_parquet(store.read(validate(project, "r", store)["valid"]))


def test_titles_are_hashed_and_nothing_else_changes(settings: Settings) -> None:
    before, after = validated(TITANIC, settings), validated(declared(), settings)
    hashes = personal.Pseudonyms(declared(), "key")
    assert after["title"].to_list() == [hashes("title", title) for title in before["title"]]
    assert after.drop("title").equals(before.drop("title"))


def test_traffic_and_the_etl_compute_the_same_group_and_a_log_without_ages_too(settings: Settings) -> None:
    project = dataclasses.replace(declared(), group="title")
    base = of_base(validated(project, settings), project)
    traffic = source.grouped_rows(source.load(project, settings, Store(settings.store)), project, settings)
    assert traffic.select("_key", "_group").equals(base.select("_key", "_group"))
    assert traffic["title"].is_in(["Mr", "Mrs", "Miss", "Master", "Rare"]).all()
    logged = base.with_columns(pl.lit(None, pl.Float64).alias("age"))
    assert row_hashes(logged, project).equals(base["_key"])


def test_without_the_key_nothing_is_written(settings: Settings) -> None:
    (settings.secrets / "personal_key").unlink()
    with pytest.raises(PlatformError, match="The secret 'personal_key' is not at"):
        validated(declared(), settings)


def test_the_quarantine_holds_no_personal_value(settings: Settings) -> None:
    project = declared()
    wrong = dataclasses.replace(project.schema["age"], maximum=30)
    features = tuple(wrong if column.name == "age" else column for column in project.schema.features)
    narrow = dataclasses.replace(project, schema=dataclasses.replace(project.schema, features=features))
    with pytest.raises(DataError, match=r"the first is row .*: age: a personal value fails"):
        validated(narrow, settings)
    quarantine = pl.read_parquet(Store(settings.store).read("quarantine/titanic/r.parquet"))
    assert quarantine.columns == ["row", "reason"]
    assert quarantine.height > 0


def test_no_value_is_shown(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    project = declared()
    rows = validated(project, settings).with_columns(pl.lit("base").alias("_origin"))
    example = impersonal(rows.head(2), project)
    assert example["age"].to_list() == [None, None]
    assert example.drop("age").equals(rows.head(2).drop("age"))
    reference = bins.reference(project, rows, rows["survived"].to_list(), {})
    assert {"title", "age"}.isdisjoint(feature_bins.feature for feature_bins in reference)
    assert {"fare", "sex"} <= {feature_bins.feature for feature_bins in reference}
    monkeypatch.setattr(profile.discovery, "get", lambda _name: project)
    monkeypatch.setattr(profile.data, "split", lambda *_: rows)
    monkeypatch.setattr(
        profile.data, "manifest", lambda *_: {"holdout_rows": 1, "feedback_rows": 0, "source": "sample"}
    )
    missing = profile._missing(rows.with_columns(pl.lit(None).alias("age")), ["age"])
    assert "age" in missing  # the page would list it
    assert "<td>age</td>" not in profile.profile("titanic", "s")


def test_logged_hashes_are_not_hashed_again(settings: Settings) -> None:
    """The log holds hashes, which are not hashed again."""
    project = declared()
    row = pl.DataFrame({column.name: [None] for column in project.schema.columns}).with_columns(
        pl.lit("ee1ca9f9ff69c4e6cbb4f6ee4a3c9f6a").alias("title")
    )
    assert source.conform(row, project.schema)["title"].to_list() == ["ee1ca9f9ff69c4e6cbb4f6ee4a3c9f6a"]


def test_an_image_cannot_be_omitted() -> None:
    with pytest.raises(Exception, match="must be nullable"):
        Column(name="face", kind="image", shape=(2, 2, 1), personal=True)
