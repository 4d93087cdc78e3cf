"""Old runs are removed from the engine with KFP's own calls."""

from __future__ import annotations

import dataclasses
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn

from cli.local import passwords
from phaseflow import Keep, PermanentError, PlatformError, discovery
from phaseflow.clients.kfp import API
from phaseflow.settings import Settings, from_environment
from phaseflow.testing import free_port
from pipelines.engine.server import application
from pipelines.engine.state import State
from pipelines.retention import runs

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PROJECT = dataclasses.replace(discovery.get("titanic"), keep=Keep(pipeline_days=30))


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """A running engine without its loop, so that its runs stay as the tests write them."""
    port = free_port()
    settings = from_environment(
        {"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_PIPELINES_URL": f"http://127.0.0.1:{port}"}
    )
    passwords.ensure(settings)
    server = uvicorn.Server(
        uvicorn.Config(application(settings), host="127.0.0.1", port=port, lifespan="off", log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive()
        yield settings
    finally:
        server.should_exit = True
        thread.join()


def create_run(state: State, name: str, days: float, status: str = "SUCCEEDED") -> str:
    identity = str(uuid.uuid4())
    created = (NOW - timedelta(days=days)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record = {
        "run_id": identity,
        "experiment_id": "",
        "display_name": name,
        "created_at": created,
        "scheduled_at": created,
        "state": status,
        "error": None,
        "pipeline_name": "titanic",
        "storage_state": "AVAILABLE",
        "pipeline_version_reference": None,
        "runtime_config": {"parameters": {}},
    }
    state.write("runs", identity, record)
    (state.folder("runs", identity) / "artifact").write_text("a row of data")
    return identity


def test_old_runs_of_the_project_are_removed_with_their_files(settings: Settings) -> None:
    state = State(settings.home / "pipelines")
    old = [create_run(state, f"titanic r{number}", 31) for number in range(3)]
    stay = [
        create_run(state, "titanic new", 29),
        create_run(state, "titanic_2 old", 31),
        create_run(state, "titanic old and alive", 31, "PENDING"),
    ]
    planned = runs.clean(settings, PROJECT, NOW, dry_run=True)
    assert {(line["count"], line["remove"], line["why"]) for line in planned} == {
        (3, True, "older than 30 days"),
        (1, False, "within 30 days"),
        (1, False, "it has not ended"),
    }
    assert len(state.all("runs")) == 6
    assert runs.clean(settings, PROJECT, NOW) == planned
    assert {run["run_id"] for run in state.all("runs")} == set(stay)
    assert not any(state.folder("runs", identity).exists() for identity in old)
    assert not any(line["remove"] for line in runs.clean(settings, PROJECT, NOW))


def test_a_missing_run_is_no_error_and_deleting_needs_the_token(settings: Settings) -> None:
    identity = create_run(State(settings.home / "pipelines"), "titanic r", 31)
    url = f"{settings.pipelines_url}{API}/runs/{identity}"
    assert httpx.delete(url).status_code == 401
    assert httpx.delete(url, headers=settings.bearer("engine_token")).status_code == 200
    assert httpx.delete(url, headers=settings.bearer("engine_token")).status_code == 404
    assert runs.clean(settings, PROJECT, NOW) == []


def test_errors_of_the_engine_are_reported(settings: Settings) -> None:
    create_run(State(settings.home / "pipelines"), "titanic r", 31)
    stranger = dataclasses.replace(settings, home=settings.home / "another")
    with pytest.raises(PermanentError, match=r"refuses the login\. Give both the same secret engine_token"):
        runs.clean(stranger, PROJECT, NOW)
    away = dataclasses.replace(settings, pipelines_url="http://127.0.0.1:9")
    with pytest.raises(PlatformError, match=r"can't be reached: .* Start it by `phaseflow up`"):
        runs.clean(away, PROJECT, NOW)
