"""Old runs leave the engine by KFP's own calls."""

from __future__ import annotations

import dataclasses
import socket
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn

from phaseflow import Keep, PermanentError, PlatformError, registry
from phaseflow.embedded import passwords
from phaseflow.settings import Settings, from_environment
from pipelines.engine.server import API, application
from pipelines.engine.state import State
from pipelines.retention import runs

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PROJECT = dataclasses.replace(registry.get("titanic"), keep=Keep(pipeline_days=30))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Settings]:
    """A running engine whose loop does not run: its runs are as the tests write them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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


def made(state: State, name: str, days: float, status: str = "SUCCEEDED") -> str:
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


def test_old_runs_of_the_project_go_with_what_they_wrote(place: Settings) -> None:
    state = State(place.home / "pipelines")
    old = [made(state, f"titanic r{number}", 31) for number in range(3)]
    stay = [
        made(state, "titanic new", 29),
        made(state, "titanic_2 old", 31),
        made(state, "titanic old and alive", 31, "PENDING"),
    ]
    planned = runs.clean(place, PROJECT, NOW, dry_run=True)
    assert {(line["count"], line["remove"], line["why"]) for line in planned} == {
        (3, True, "older than 30 days"),
        (1, False, "within 30 days"),
        (1, False, "it has not ended"),
    }
    assert len(state.all("runs")) == 6
    assert runs.clean(place, PROJECT, NOW) == planned
    assert {run["run_id"] for run in state.all("runs")} == set(stay)
    assert not any(state.folder("runs", identity).exists() for identity in old)
    assert not any(line["remove"] for line in runs.clean(place, PROJECT, NOW))


def test_a_run_that_is_gone_meanwhile_is_no_error_and_nobody_deletes_without_the_token(place: Settings) -> None:
    identity = made(State(place.home / "pipelines"), "titanic r", 31)
    url = f"{place.pipelines_url}{API}/runs/{identity}"
    assert httpx.delete(url).status_code == 401
    assert httpx.delete(url, headers=place.bearer("engine_token")).status_code == 200
    assert httpx.delete(url, headers=place.bearer("engine_token")).status_code == 404
    assert runs.clean(place, PROJECT, NOW) == []


def test_what_goes_wrong_is_said(place: Settings) -> None:
    made(State(place.home / "pipelines"), "titanic r", 31)
    stranger = dataclasses.replace(place, home=place.home / "another")
    with pytest.raises(PermanentError, match=r"refuses the token\. Give both the same secret engine_token"):
        runs.clean(stranger, PROJECT, NOW)
    away = dataclasses.replace(place, pipelines_url="http://127.0.0.1:9")
    with pytest.raises(PlatformError, match=r"can't be reached: .* Start it by `phaseflow up`"):
        runs.clean(away, PROJECT, NOW)
