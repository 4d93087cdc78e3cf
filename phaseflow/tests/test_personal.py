"""Personal columns: valid declarations and the keyed hash."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.local import passwords
from phaseflow import Column, ContractError, Drift, Keep, PlatformError, Project, Schema, Slice, discovery, personal
from phaseflow.contract import Gate
from phaseflow.settings import from_environment

TITANIC = discovery.get("titanic")
USER = Column(name="user", kind="id", personal=True)


def with_columns(*columns: Column, **changes: Any) -> Project:
    """Create the project titanic with `columns` added, or replaced if the name exists; `changes` replace its fields."""
    features = {column.name: column for column in TITANIC.schema.features} | {c.name: c for c in columns}
    schema = Schema(features=tuple(features.values()), target=TITANIC.schema.target)
    example = dict(TITANIC.example) | {c.name: "x" for c in columns if c.name not in TITANIC.example}
    values = {field.name: getattr(TITANIC, field.name) for field in dataclasses.fields(TITANIC)}
    return Project(**values | {"schema": schema, "example": example, "drift": Drift(), "gate": Gate()} | changes)


def test_ids_and_open_categories_are_hashed_and_all_other_kinds_are_omitted() -> None:
    project = with_columns(
        USER,
        Column(name="title", kind="category", personal=True),
        Column(name="sex", kind="category", allowed=("female", "male"), personal=True, nullable=True),
        Column(name="age", kind="number", nullable=True, personal=True),
    )
    assert [column.name for column in personal.hashed(project)] == ["title", "user"]
    assert personal.omitted(project) == ("sex", "age")
    assert not {"title", "sex", "age"} & set(project.monitored_features)
    assert "user.familiar" in project.monitored_features  # whether an id is familiar is not personal data


def test_omitted_columns_must_be_nullable() -> None:
    with pytest.raises(ContractError) as error:
        Column(name="fare", kind="number", personal=True)
    assert str(error.value) == (
        "Column 'fare': a personal column of kind 'number' is omitted from the log, so it must be nullable. Set nullable=True, so "
        "that a model can learn from rows without it, or remove personal."
    )
    with pytest.raises(ContractError, match="of kind 'category' with allowed values"):
        Column(name="sex", kind="category", allowed=("f", "m"), personal=True)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"drift": Drift(features=("title",))},
            "Drift.features contains 'title', but metrics must not show the personal column 'title'. Remove it from Drift.features, or "
            "remove personal from 'title'.",
        ),
        (
            {"gate": Gate(slices=(Slice(column="title", threshold=0.5),))},
            "Slice.column is 'title', a personal column, but metrics show the values of a slice. Slice by another column, or remove "
            "personal from 'title'.",
        ),
        (
            {"keep": Keep(log_days=1), "drift": Drift(window_seconds=100_000)},
            "Keep.log_days is 1, less than the 100000 s of Drift.window_seconds. Set Keep.log_days to 2 or more.",
        ),
        (
            {"keep": Keep(event_days=1), "drift": Drift(cooldown_seconds=100_000)},
            "Keep.event_days is 1, less than the 100000 s of Drift.cooldown_seconds. Set Keep.event_days to 2 or more.",
        ),
    ],
)
def test_contradicting_fields_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ContractError) as error:
        with_columns(Column(name="title", kind="category", personal=True), **changes)
    assert str(error.value) == text


def test_a_target_can_not_be_personal() -> None:
    with pytest.raises(ContractError, match=r"Schema.target 'user' is personal, but a model learns to predict it\."):
        Schema(features=(Column(name="age", kind="number"),), target=USER)


@pytest.mark.parametrize("days", [0, -1, 1.5e9, True])
def test_retention_is_between_one_day_and_a_century(days: float) -> None:
    with pytest.raises(ContractError, match=r"Keep\.log_days is .*; allowed: 1 to 36500 days\."):
        Keep(log_days=days)  # type: ignore[arg-type]


@given(st.text(), st.text())
def test_only_equal_values_have_equal_hashes(left: str, right: str) -> None:
    hashes = personal.Pseudonyms(with_columns(USER), "key")
    assert (hashes("user", left) == hashes("user", right)) == (left == right)
    assert not left or personal.Pseudonyms(with_columns(USER), "another")("user", left) != hashes("user", left)


def test_a_hash_depends_on_the_project_and_the_column() -> None:
    title = Column(name="title", kind="category", personal=True)
    hashes = personal.Pseudonyms(with_columns(USER, title), "key")
    # printf 'titanic\x1fuser\x1f196' | openssl dgst -sha256 -hmac key
    assert hashes("user", "196") == "fe75f4609def3fea96b27ff4f078ca87"
    assert hashes("user", "196") != hashes("title", "196")
    assert personal.Pseudonyms(with_columns(USER, title, name="other"), "key")("user", "196") != hashes("user", "196")
    assert hashes("user", None) is None


def test_the_key_is_a_secret_that_is_created_once(tmp_path: Path) -> None:
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path)})
    assert personal.pseudonyms(TITANIC, settings) is None  # without personal columns no secret is read
    with pytest.raises(PlatformError, match=r"The secret 'personal_key' is not at .*Make it with `phaseflow up`"):
        personal.pseudonyms(with_columns(USER), settings)
    passwords.ensure(settings)
    before = settings.secret("personal_key")
    passwords.ensure(settings)
    assert settings.secret("personal_key") == before
    assert (settings.secrets / "personal_key").stat().st_mode & 0o777 == 0o600
    hashes = personal.pseudonyms(with_columns(USER), settings)
    assert hashes is not None
