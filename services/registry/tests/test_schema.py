"""MLflow's schema is upgraded before its server starts, in real databases with the schema of an older MLflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import sqlalchemy
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils
from mlflow.store.tracking.dbmodels.initial_models import Base as FirstTables

from cli.local import mlflow
from phaseflow import PlatformError
from phaseflow.settings import ROOT, from_environment
from phaseflow.testing import free_port
from services.registry import schema
from tests import stores

OLDER = "1b5f0d9ad7c1"
"""Revision of January 2026, 18 migrations before the schema of MLflow 3.17."""


@pytest.fixture(scope="module")
def server() -> Iterator[stores.Postgres]:
    with stores.postgres("super") as server:
        yield server


@pytest.fixture(scope="module")
def older_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("older") / "mlflow.db"
    make_older(f"sqlite:///{path}")
    return path


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database: `sqlite older`, `postgres older`, `postgres empty`."""
    kind, _, state = request.param.partition(" ")
    if kind == "sqlite":
        path = tmp_path / "mlflow.db"
        shutil.copy(request.getfixturevalue("older_file"), path)
        return f"sqlite:///{path}"
    server: stores.Postgres = request.getfixturevalue("server")
    name = f"d{time.monotonic_ns()}"
    engine = sqlalchemy.create_engine(server.url("postgres", "super", "postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    url = server.url("postgres", "super", name)
    if state == "older":
        make_older(url)
    return url


def make_older(url: str) -> None:
    """Create the tables of an older version, with one experiment."""
    engine = sqlalchemy.create_engine(url)
    FirstTables.metadata.create_all(engine)
    command.upgrade(utils._get_alembic_config(url), OLDER)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
                "VALUES (7, 'titanic', 'mlflow-artifacts:/7', 'active')"
            )
        )
    engine.dispose()


def verify(url: str) -> None:
    """Verify the schema as MLflow's server does on startup."""
    engine = sqlalchemy.create_engine(url)
    try:
        utils._verify_schema(engine)
    finally:
        engine.dispose()


def start(*arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "services.registry.schema", *arguments]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_latest_revision_is_alembic_s() -> None:
    assert schema._heads() == set(ScriptDirectory.from_config(utils._get_alembic_config("")).get_heads())


@pytest.mark.parametrize("url", ["postgres older", "postgres empty", "sqlite older"], indirect=True)
def test_of_two_at_once_one_upgrades_and_both_find_the_schema_of_today(url: str) -> None:
    with pytest.raises(MlflowException, match="out-of-date database schema"):
        verify(url)
    both = [start(url, sys.executable, "-c", "print('then the command')") for _ in range(2)]
    outputs = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert [output for output, _ in outputs] == ["then the command\n"] * 2
    assert sum("upgrading the schema of MLflow's database" in errors for _, errors in outputs) == 1
    verify(url)
    assert not schema.upgrade(url)


@pytest.mark.parametrize("url", ["postgres empty", "sqlite older"], indirect=True)
def test_one_that_waits_too_long_says_for_what(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "PATIENCE", 0.2)
    with schema._alone(sqlalchemy.create_engine(url)), pytest.raises(PlatformError) as error:
        schema.upgrade(url)
    assert "Another process has" in str(error.value)
    assert str(error.value).endswith("Wait for it, or end it.")
    assert "super:super" not in str(error.value)


def test_a_failed_upgrade_leaves_the_old_file(
    older_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(older_file, path)
    before = path.read_bytes()

    def broken(url: str) -> None:
        engine = sqlalchemy.create_engine(url)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("DROP TABLE experiments"))
        raise OSError("no space left")

    monkeypatch.setattr(schema, "_mlflow_upgrade", broken)
    with pytest.raises(OSError, match="no space left"):
        schema.upgrade(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_the_server_of_one_machine_starts_on_an_older_database(older_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    shutil.copy(older_file, tmp_path / "mlflow" / "mlflow.db")
    port = free_port()
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path)})
    argv = mlflow.command(settings)
    argv[argv.index("--port") + 1] = str(port)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=ROOT, env=os.environ | mlflow.environment(), stdout=log, stderr=log)
    try:
        end = time.monotonic() + 600
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get?experiment_id=7") as answer:
                    assert b'"titanic"' in answer.read()
                    break
            except HTTPError:
                raise
            except OSError:
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(0.1)  # the polling interval
    finally:
        process.terminate()
        process.wait(30)


def test_a_new_home_is_left_to_the_server(tmp_path: Path) -> None:
    assert not schema.upgrade(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert list(tmp_path.iterdir()) == []
