"""Personal values are hashed before the model sees them, or are not logged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import polars as pl
import pytest

from phaseflow import discovery, personal
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.testing import more_projects
from services.serving import requests
from services.serving.requests import RefusedError
from services.serving.spool import Log

PROJECT = """
from phaseflow import Candidate, Column, Metric, Project, Schema, Source

project = Project(
    name="loans",
    title="Loans",
    phase=1,
    source=Source(url="", mirror="", sample="loans.data:sample"),
    schema=Schema(
        features=(
            Column(name="user", kind="id", personal=True),
            Column(name="employer", kind="category", nullable=True, personal=True),
            Column(name="income", kind="number", nullable=True, personal=True),
            Column(name="amount", kind="number"),
        ),
        target=Column(name="repaid", kind="category", allowed=("0", "1")),
    ),
    transform="loans.data:transform",
    train="loans.model:train",
    candidates=(Candidate(name="tree"),),
    metrics=(Metric(name="roc_auc"),),
    example={"user": "1", "employer": None, "income": 3.0, "amount": 2.0},
)
"""
ROW = {"user": "ada", "employer": "Analytical Engines", "income": 12.5, "amount": 7.0}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with the secret and a project with personal columns; caches are cleared before and after."""
    folder = tmp_path / "projects" / "loans"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "project.py").write_text(PROJECT)
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("PHASEFLOW_PROJECTS", str(folder.parent))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "personal_key").write_text("key")
    for cache in (discovery.get, requests.get_reader, requests.pseudonyms):
        cache.cache_clear()
    with more_projects(folder.parent):
        yield tmp_path
    for cache in (discovery.get, requests.get_reader, requests.pseudonyms):
        cache.cache_clear()


def test_the_model_sees_the_hash_that_the_etl_makes_too(home: Path) -> None:
    reader = requests.get_reader("loans")
    hashes = personal.pseudonyms(discovery.get("loans"), from_environment())
    assert hashes is not None
    expected = (hashes("user", "ada"), hashes("employer", "Analytical Engines"), 12.5, 7.0)
    body = json.dumps({"rows": [ROW, ROW | {"employer": None}]}).encode()
    assert requests.rows_of(reader, body) == [expected, (expected[0], None, 12.5, 7.0)]
    assert requests.convert(reader, [ROW]) == [expected]
    assert requests.rows_of(reader, msgspec.json.encode(ROW)) == [expected]


def test_the_log_holds_no_personal_value(home: Path) -> None:
    store = Store(str(home / "store"))
    log = Log(home / "spool", store)
    project = discovery.get("loans")
    rows = requests.rows_of(requests.get_reader("loans"), msgspec.json.encode(ROW))
    log.append(project, "predictions", [("id-0", 1_000_000, "1", *row, "1", 0.5, 1.0) for row in rows])
    spooled = next((home / "spool").glob("*.jsonl")).read_text()
    log.ship()
    (key,) = store.keys("predictions/loans")
    logged = pl.read_parquet(store.read(key))
    assert logged["income"].to_list() == [None]
    assert logged["amount"].to_list() == [7.0]
    assert logged["prediction"].to_list() == ["1"]
    for value in ("ada", "Analytical Engines", "12.5"):
        assert value not in spooled + str(logged.rows())


def test_without_the_key_requests_are_refused_with_the_fix(home: Path) -> None:
    (home / "secrets" / "personal_key").unlink()
    with pytest.raises(RefusedError) as error:
        requests.rows_of(requests.get_reader("loans"), msgspec.json.encode(ROW))
    assert error.value.status == 503
    assert str(error.value).startswith(
        "The personal columns of loans can't be hashed: The secret 'personal_key' is not at"
    )
    assert error.value.fix == "Make it with `phaseflow up`."
