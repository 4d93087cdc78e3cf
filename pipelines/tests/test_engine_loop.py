"""The runner's loop with real processes. Errors of a run, the disk or a project fail only the affected run."""

# Annotations must be real classes here, because KFP reads those of the component below.
import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kfp import compiler, dsl

import projects
from cli.local import passwords
from phaseflow.clients.kfp import API
from phaseflow.errors import PlatformError
from phaseflow.loops import Loops
from phaseflow.settings import ROOT, Settings, from_environment
from pipelines.engine import environment, runs
from pipelines.engine.server import LOOP, MAX_AGE_SECONDS, application
from pipelines.engine.state import State, now

SECONDS = 90.0


@dsl.component(base_image="none", install_kfp_package=False)
def nothing() -> None:
    pass


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    @dsl.pipeline(name="toy")
    def toy() -> None:
        nothing()

    path = tmp_path_factory.mktemp("toy") / "toy.yaml"
    compiler.Compiler().compile(toy, str(path))
    compiled: dict[str, Any] = yaml.safe_load(path.read_text())
    return compiled


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path / "home"))
    settings = from_environment()
    passwords.ensure(settings)
    yield settings
    for folder in (settings.home / "pipelines" / "runs").glob("*"):
        shutil.rmtree(runs.scratch(folder.name), ignore_errors=True)


def record(name: str = "toy", **changes: Any) -> dict[str, Any]:
    return {
        "run_id": str(uuid.uuid4()),
        "experiment_id": "",
        "display_name": "a run",
        "created_at": now(),
        "state": "PENDING",
        "error": None,
        "pipeline_name": name,
        **changes,
    }


def serve(state: State, settings: Settings, ended: Callable[[], bool], runner: runs.Runner | None = None) -> None:
    """Run the loop as the service does, until `ended` returns True."""

    async def main() -> None:
        loops = Loops(end=lambda: pytest.fail("the loop ended"))
        serving = runner or runs.Runner(state, settings)
        loops.start(LOOP, serving.iterate, seconds=0.0, max_age=MAX_AGE_SECONDS)
        async with asyncio.timeout(SECONDS):
            while not ended():  # noqa: ASYNC110  # the loop's own records say so
                await asyncio.sleep(0.02)
        assert loops.overdue() == []
        await loops.stop()

    asyncio.run(main())


def states(state: State) -> dict[str, str]:
    return {run["run_id"]: run["state"] for run in state.all("runs")}


def all_ended(state: State, count: int) -> Callable[[], bool]:
    return lambda: sum(value in {"FAILED", "SUCCEEDED"} for value in states(state).values()) == count


def project(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "project.py").write_text(text)


def test_a_malformed_run_fails_alone_even_at_startup(
    settings: Settings, toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path / "more", "raises_error", "raise ValueError('no good')\n")
    project(tmp_path / "more", "raises_exit", "raise SystemExit(3)\n")
    project(tmp_path / "more", "ends_process", "import os\nos._exit(0)\n")
    monkeypatch.setenv("PHASEFLOW_PROJECTS", str(tmp_path / "more"))
    monkeypatch.setattr(projects, "__path__", [*projects.__path__, str(tmp_path / "more")])
    state = State(settings.home / "pipelines")
    creator = runs.Runner(state, settings)
    expected: dict[str, str] = {}

    def broken(message: str, name: str = "toy", **changes: Any) -> Path:
        run_record = record(name, **changes)
        folder = state.root / "runs" / run_record["run_id"]
        creator.create(run_record, toy, {})
        expected[run_record["run_id"]] = message
        return folder

    broken("its pipeline_name is not a string", name=7)  # type: ignore[arg-type]  # deliberately wrong
    broken("its state is not one of", state="QUEUED")
    broken("its pid is not a process ID", state="RUNNING", pid=0)
    broken("its pid is not a process ID", state="RUNNING", pid=-1)
    broken("its pid is not a process ID", state="RUNNING", pid=True)
    broken("its created_at is not a string", created_at=None)
    (broken("it can't be read (JSONDecodeError") / "record.json").write_text('{"run_id": "')
    (broken("it can't be read (UnicodeDecodeError") / "record.json").write_bytes(b'"\xff"')
    (broken("it is not an object") / "record.json").write_text("[1]")
    deep = broken("nested more than 100 deep")
    run_record = json.loads((deep / "record.json").read_text())
    (deep / "record.json").write_text(json.dumps(run_record)[:-1] + ', "x": ' + "[" * 500 + "]" * 500 + "}")
    (broken("Its folder holds no pipeline.yaml") / "pipeline.yaml").unlink()
    (broken("Its folder holds no parameters.json") / "parameters.json").unlink()
    (broken("JSONDecodeError") / "parameters.json").write_text("{")
    (broken("holds no state of an ended run", state="RUNNING") / "outcome.json").write_text('{"state": 1, "error": 2}')
    (broken("outcome.json can't be read", state="RUNNING") / "outcome.json").mkdir()
    (broken("Is a directory") / "log.txt").mkdir()
    broken("raises_error/project.py can't be imported: ValueError: no good", name="raises-error")
    broken("raises_exit/project.py can't be imported", name="raises-exit")
    broken("ends_process/project.py can't be imported: it exited with 0", name="ends-process")
    (state.root / "runs" / "no-uuid").mkdir()
    (state.root / "runs" / "no-uuid" / "record.json").write_text("{")
    sound = record()
    creator.create(sound, toy, {})
    serve(state, settings, all_ended(state, len(expected) + 1))
    runs_by_id = {run["run_id"]: run for run in state.all("runs")}
    for identity, message in expected.items():
        assert runs_by_id[identity]["state"] == "FAILED", runs_by_id[identity]
        assert message in runs_by_id[identity]["error"]["message"], runs_by_id[identity]["error"]
    assert runs_by_id[sound["run_id"]]["state"] == "SUCCEEDED", runs_by_id[sound["run_id"]]


def test_a_disk_that_is_full_while_a_run_starts_is_survived(
    settings: Settings, toy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(settings.home / "pipelines")
    runner = runs.Runner(state, settings)
    first, second = record(), record()
    runner.create(first, toy, {})
    runner.create(second, toy, {})
    full = [True, True]
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if full:
            full.pop()
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr("phaseflow.store.os.fsync", fsync)
    serve(state, settings, all_ended(state, 2), runner)
    assert not full
    assert set(states(state).values()) == {"SUCCEEDED"}
    # A run whose end could not be noted is noted later.
    third = record(state="RUNNING", pid=None)
    runner.create(third, toy, {})
    full.append(True)
    serve(state, settings, all_ended(state, 3))
    assert states(state)[third["run_id"]] == "FAILED"


def test_a_disk_that_stays_full_fails_the_loop_and_not_the_process(
    settings: Settings, toy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(settings.home / "pipelines")
    runner = runs.Runner(state, settings)
    runner.create(record(state="RUNNING"), toy, {})

    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("phaseflow.store.os.fsync", fsync)
    with pytest.raises(Exception, match="No space left on device"):
        asyncio.run(runner.iterate())
    assert set(states(state).values()) == {"RUNNING"}


def test_a_run_that_is_cancelled_while_its_project_is_imported_does_not_start(
    settings: Settings, toy: dict[str, Any]
) -> None:
    state = State(settings.home / "pipelines")
    runner = runs.Runner(state, settings)
    run_record = record()
    runner.create(run_record, toy, {})

    class Slow(environment.Environments):
        async def of(self, pipeline_name: str) -> str:
            runner.terminate(run_record["run_id"])
            return await super().of(pipeline_name)

    runner._environments = Slow()
    asyncio.run(runner._look())
    assert states(state)[run_record["run_id"]] == "CANCELED"
    assert not runs.scratch(run_record["run_id"]).exists()


def test_a_temporary_folder_of_somebody_else_is_not_used(settings: Settings, toy: dict[str, Any]) -> None:
    state = State(settings.home / "pipelines")
    runner = runs.Runner(state, settings)
    run_record = record()
    runner.create(run_record, toy, {})
    runs.scratch(run_record["run_id"]).mkdir(mode=0o777)
    runs.scratch(run_record["run_id"]).chmod(0o777)
    serve(state, settings, all_ended(state, 1), runner)
    (run,) = state.all("runs")
    assert "is not this user's own folder. Remove it, and start the run again." in run["error"]["message"]
    assert not (state.root / "runs" / run_record["run_id"] / "outcome.json").exists()


def test_a_process_is_identified_by_its_pid_and_start_time() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ticks = runs._process(child.pid)[1]
    assert runs.is_alive({"pid": child.pid, "start_ticks": ticks})
    assert runs.is_alive({"pid": child.pid})  # of an engine without start times
    assert not runs.is_alive({"pid": child.pid, "start_ticks": ticks + 1})
    child.communicate(b"\n")
    assert not runs.is_alive({"pid": child.pid, "start_ticks": ticks})
    assert not runs.is_alive({"pid": None})


def test_health_is_503_when_the_loop_is_overdue(settings: Settings) -> None:
    clock = 1000.0
    loops = Loops(end=lambda: pytest.fail("the process must go on"), clock=lambda: clock)
    app = application(settings, loops)

    async def main() -> tuple[int, int, str]:
        nonlocal clock
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

            async def stuck() -> None:
                await asyncio.Event().wait()

            loops.start(LOOP, stuck, seconds=1, max_age=MAX_AGE_SECONDS)
            first = await client.get(f"{API}/healthz")
            clock += MAX_AGE_SECONDS + 1
            second = await client.get(f"{API}/healthz")
            await loops.stop()
            return first.status_code, second.status_code, second.json()["error"]

    assert asyncio.run(main()) == (200, 503, "The loop runs is overdue. Read the engine's log.")


def test_an_engine_without_the_secret_serves_readers_alone(tmp_path: Path) -> None:
    bare = from_environment({"PHASEFLOW_HOME": str(tmp_path)})

    async def main() -> list[int]:
        transport = httpx.ASGITransport(application(bare))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            headers = [{}, {"authorization": "Bearer "}, {"authorization": "Bearer x"}]
            responses = [await client.post(f"{API}/runs", json={}, headers=header) for header in headers]
            return [(await client.get(f"{API}/runs")).status_code, *(response.status_code for response in responses)]

    assert asyncio.run(main()) == [200, 401, 401, 401]


def test_the_import_of_a_project_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path / "more", "never_returns", "while True:\n    pass\n")
    monkeypatch.setenv("PHASEFLOW_PROJECTS", str(tmp_path / "more"))
    monkeypatch.setattr(projects, "__path__", [*projects.__path__, str(tmp_path / "more")])
    with pytest.raises(PlatformError, match=r"was not imported within 0.5 s\. Let it only declare\."):
        asyncio.run(environment.Environments(0.5).of("never-returns"))


def test_a_pipeline_runs_in_the_environment_of_its_project() -> None:
    async def main() -> list[str]:
        environments = environment.Environments()
        return [await environments.of(name) for name in ("titanic", "titanic", "no-project", "../../x")]

    assert asyncio.run(main()) == ["tabular", "tabular", "tabular", "tabular"]
    completed = subprocess.run(
        [sys.executable, "-m", "pipelines.engine.environment", "nothing"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 2
    assert " ERROR pipelines.environment: There is no project 'nothing'" in completed.stderr
