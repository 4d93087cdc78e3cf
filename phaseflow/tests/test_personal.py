"""Personal columns: what may be declared, and the keyed hash."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phaseflow import Column, ContractError, Drift, Keep, PlatformError, Project, Schema, Slice, personal, registry
from phaseflow.contract import Gate
from phaseflow.embedded import passwords
from phaseflow.settings import from_environment

TITANIC = registry.get("titanic")
USER = Column(name="user", kind="id", personal=True)


def with_columns(*columns: Column, **changes: Any) -> Project:
    """Titanic with these columns in the place of those of the same names, and new ones."""
    features = {column.name: column for column in TITANIC.schema.features} | {c.name: c for c in columns}
    schema = Schema(features=tuple(features.values()), target=TITANIC.schema.target)
    example = dict(TITANIC.example) | {c.name: "x" for c in columns if c.name not in TITANIC.example}
    values = {field.name: getattr(TITANIC, field.name) for field in dataclasses.fields(TITANIC)}
    return Project(**values | {"schema": schema, "example": example, "drift": Drift(), "gate": Gate()} | changes)


def test_ids_and_open_categories_are_hashed_and_everything_else_is_left_out() -> None:
    project = with_columns(
        USER,
        Column(name="title", kind="category", personal=True),
        Column(name="sex", kind="category", allowed=("female", "male"), personal=True, nullable=True),
        Column(name="age", kind="number", nullable=True, personal=True),
    )
    assert [column.name for column in personal.hashed(project)] == ["title", "user"]
    assert personal.omitted(project) == ("sex", "age")
    assert not {"title", "sex", "age"} & set(project.watched)
    assert "user.familiar" in project.watched  # whether an id was seen before is nothing personal


def test_what_would_not_come_back_must_be_nullable() -> None:
    with pytest.raises(ContractError) as error:
        Column(name="fare", kind="number", personal=True)
    assert str(error.value) == (
        "Column 'fare': it is personal, and of kind 'number': the log leaves it out, and it is not nullable. Set nullable=True, so that "
        "a model can learn from rows without it, or remove personal."
    )
    with pytest.raises(ContractError, match="of kind 'category' with allowed values"):
        Column(name="sex", kind="category", allowed=("f", "m"), personal=True)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"drift": Drift(features=("title",))},
            "Drift.features names 'title', and metrics do not show the personal column 'title'. Leave it out of Drift.features, or "
            "remove personal from 'title'.",
        ),
        (
            {"gate": Gate(slices=(Slice(column="title", bound=0.5),))},
            "Slice.column is 'title', a personal column, and metrics show each value of a slice. Slice by another column, or remove "
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
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ContractError) as error:
        with_columns(Column(name="title", kind="category", personal=True), **changes)
    assert str(error.value) == text


def test_a_target_is_not_personal() -> None:
    with pytest.raises(
        ContractError, match=r"Schema.target 'user' is personal, and a model learns to answer with it\."
    ):
        Schema(features=(Column(name="age", kind="number"),), target=USER)


@pytest.mark.parametrize("wrong", [0, -1, 1.5e9, True])
def test_nothing_is_kept_for_no_time(wrong: float) -> None:
    with pytest.raises(ContractError, match=r"Keep\.log_days is .*; allowed: 1 to 36500 days\."):
        Keep(log_days=wrong)  # type: ignore[arg-type]


@given(st.text(), st.text())
def test_equal_values_and_they_alone_have_equal_hashes(one: str, other: str) -> None:
    hashes = personal.Pseudonyms(with_columns(USER), "key")
    assert (hashes("user", one) == hashes("user", other)) == (one == other)
    assert not one or personal.Pseudonyms(with_columns(USER), "another")("user", one) != hashes("user", one)


def test_a_hash_is_of_its_project_and_column() -> None:
    title = Column(name="title", kind="category", personal=True)
    hashes = personal.Pseudonyms(with_columns(USER, title), "key")
    # printf 'titanic\x1fuser\x1f196' | openssl dgst -sha256 -hmac key
    assert hashes("user", "196") == "fe75f4609def3fea96b27ff4f078ca87"
    assert hashes("user", "196") != hashes("title", "196")
    assert personal.Pseudonyms(with_columns(USER, title, name="other"), "key")("user", "196") != hashes("user", "196")
    assert hashes("user", None) is None


def test_the_key_is_a_secret_that_is_made_once(tmp_path: Path) -> None:
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path)})
    assert personal.pseudonyms(TITANIC, settings) is None  # who needs none reads none
    with pytest.raises(PlatformError, match=r"The secret 'personal_key' is not at .*Make it with `phaseflow up`"):
        personal.pseudonyms(with_columns(USER), settings)
    passwords.ensure(settings)
    before = settings.secret("personal_key")
    passwords.ensure(settings)
    assert settings.secret("personal_key") == before
    assert (settings.secrets / "personal_key").stat().st_mode & 0o777 == 0o600
    hashes = personal.pseudonyms(with_columns(USER), settings)
    assert hashes is not None
