"""The engine with KFP's own client, and the whole pipeline through it into a real MLflow."""

# Annotations must be real classes here: KFP reads those of the components below.
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kfp import Client, compiler, dsl
from kfp_server_api import ApiException
from mlflow import MlflowClient

from phaseflow import events, registry
from phaseflow.loops import METRIC
from phaseflow.settings import PORTS, ROOT, Settings
from phaseflow.store import Store
from pipelines import compile as compiling
from pipelines.engine.runs import scratch
from pipelines.tests.conftest import Process, answers, wait_for


@pytest.fixture(scope="module")
def engine(place: Settings) -> Iterator[Process]:
    offset = int(place.pipelines_url.rsplit(":", 1)[1]) - PORTS["pipelines"]
    argv = [str(place.python("pipelines")), "-m", "pipelines.engine"]
    process = Process(argv, place.home / "engine.log", PHASEFLOW_PORT_OFFSET=str(offset))
    process.start()
    wait_for("the engine's start", lambda: answers(f"{place.pipelines_url}/apis/v2beta1/healthz"))
    yield process
    process.kill()


def connect(place: Settings) -> Client:
    return Client(host=place.pipelines_url, existing_token=place.secret("engine_token"))


@dsl.component(base_image="none", install_kfp_package=False)
def add(left: int, right: int) -> int:
    return left + right


@dsl.component(base_image="none", install_kfp_package=False)
def wait(path: str) -> None:
    import time
    from pathlib import Path

    Path(path).touch()
    while True:
        time.sleep(0.1)


@dsl.component(base_image="none", install_kfp_package=False)
def fail() -> None:
    raise ValueError("the reason is here")


def package(folder: Path, component: Any, **arguments: Any) -> str:
    @dsl.pipeline(name="toy")
    def toy() -> None:
        component(**arguments)

    path = folder / f"{uuid.uuid4()}.yaml"
    compiler.Compiler().compile(toy, str(path))
    return str(path)


def test_kfps_client_works(engine: Process, place: Settings, tmp_path: Path) -> None:
    client = connect(place)
    path = package(tmp_path, add, left=1, right=2)
    uploaded = client.upload_pipeline(path, pipeline_name="toy-upload")
    version = client.upload_pipeline_version(path, pipeline_version_name="second", pipeline_name="toy-upload")
    assert client.get_pipeline_id("toy-upload") == uploaded.pipeline_id
    assert client.list_pipeline_versions(uploaded.pipeline_id).pipeline_versions[0].display_name == "second"
    experiment = client.create_experiment("toys")
    run = client.run_pipeline(
        experiment.experiment_id, "by version", pipeline_id=uploaded.pipeline_id, version_id=version.pipeline_version_id
    )
    assert client.wait_for_run_completion(run.run_id, timeout=60, sleep_duration=1).state == "SUCCEEDED"
    direct = client.create_run_from_pipeline_package(path, arguments={}, run_name="direct", experiment_name="toys")
    assert direct.wait_for_run_completion(timeout=60).state == "SUCCEEDED"
    assert {run.display_name for run in client.list_runs().runs} >= {"by version", "direct"}
    assert not scratch(direct.run_id).exists()


def test_a_failed_run_says_why(engine: Process, place: Settings, tmp_path: Path) -> None:
    client = connect(place)
    run = client.create_run_from_pipeline_package(package(tmp_path, fail), run_name="fails")
    found = client.wait_for_run_completion(run.run_id, timeout=60, sleep_duration=1)
    assert found.state == "FAILED"
    assert "the reason is here" in found.error.message


def started(client: Client, tmp_path: Path, name: str) -> tuple[str, Path]:
    mark = tmp_path / f"{name}.started"
    run = client.create_run_from_pipeline_package(package(tmp_path, wait, path=str(mark)), run_name=name)
    wait_for("the step's start", mark.exists)
    return run.run_id, mark


def test_terminate_ends_the_processes(engine: Process, place: Settings, tmp_path: Path) -> None:
    client = connect(place)
    run_id, _ = started(client, tmp_path, "endless")
    assert list(scratch(run_id).iterdir())  # what KFP makes for a step
    client.terminate_run(run_id)
    assert client.get_run(run_id).state == "CANCELED"
    folder = str(place.home / "pipelines" / "runs" / run_id)
    wait_for("the end of its processes", lambda: not [line for line in commands() if folder in line])
    wait_for("the end of its temporary files", lambda: not scratch(run_id).exists())


def commands() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def test_a_killed_engine_finds_living_runs_again_and_fails_dead_ones(
    engine: Process, place: Settings, tmp_path: Path
) -> None:
    client = connect(place)
    living, _ = started(client, tmp_path, "lives on")
    dying, _ = started(client, tmp_path, "dies")
    assert engine.child is not None
    os.kill(engine.child.pid, signal.SIGKILL)
    engine.child.wait()
    record = json.loads((place.home / "pipelines" / "runs" / dying / "record.json").read_text())
    os.killpg(record["pid"], signal.SIGKILL)
    engine.start()
    wait_for("the engine's return", lambda: answers(f"{place.pipelines_url}/apis/v2beta1/healthz"))
    wait_for("the dead run's end", lambda: client.get_run(dying).state == "FAILED")
    assert "killed before it ended" in client.get_run(dying).error.message
    assert client.get_run(living).state == "RUNNING"
    client.terminate_run(living)


def run_folders(place: Settings) -> set[str]:
    return {path.name for path in (place.home / "pipelines" / "runs").glob("*")}


def attack(tmp_path: Path) -> tuple[bytes, Path]:
    """A run that leaves a mark, as JSON."""
    mark = tmp_path / "ran"
    spec = yaml.safe_load(Path(package(tmp_path, wait, path=str(mark))).read_text())
    return json.dumps({"display_name": "attack", "pipeline_spec": spec}).encode(), mark


JSON = {"content-type": "application/json"}
FOREIGN = {"origin": "http://evil.com", "sec-fetch-site": "cross-site"}


@pytest.mark.parametrize(
    ("headers", "token", "status"),
    [
        (FOREIGN | {"content-type": "text/plain", "host": "evil.com"}, False, 403),
        (FOREIGN | {"content-type": "text/plain"}, False, 403),
        (FOREIGN | JSON, True, 403),
        ({"content-type": "text/plain"}, False, 401),
        ({"content-type": "text/plain"}, True, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, True, 415),
        ({"content-type": "multipart/form-data; boundary=a"}, True, 415),
        (JSON | {"host": "evil.com"}, True, 403),
        (JSON | {"host": "evil.com:8888"}, True, 403),
        (JSON | {"origin": "null"}, True, 403),
        (JSON | {"sec-fetch-site": "cross-site"}, True, 403),
        (JSON, False, 401),
        (JSON | {"authorization": "Bearer wrong"}, False, 401),
        (JSON | {"authorization": "Basic YWRtaW46YWRtaW4="}, False, 401),
    ],
)
def test_a_foreign_page_starts_no_run(
    engine: Process, place: Settings, tmp_path: Path, headers: dict[str, str], token: bool, status: int
) -> None:
    body, mark = attack(tmp_path)
    before = run_folders(place)
    headers = headers | (place.bearer("engine_token") if token else {})
    answer = httpx.post(f"{place.pipelines_url}/apis/v2beta1/runs", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "code", "message", "details"}
    assert run_folders(place) == before
    assert not mark.exists()


def test_nothing_is_changed_without_the_token(engine: Process, place: Settings, tmp_path: Path) -> None:
    run_id, _ = started(connect(place), tmp_path, "goes on")
    spec = Path(package(tmp_path, add, left=1, right=2)).read_bytes()
    for path in ("upload?name=stranger", "upload_version?pipelineid=x"):
        answer = httpx.post(f"{place.pipelines_url}/apis/v2beta1/pipelines/{path}", files={"uploadfile": spec})
        assert answer.status_code == 401, answer.text
    for method, path in (("POST", f"runs/{run_id}:terminate"), ("DELETE", f"runs/{run_id}"), ("POST", "experiments")):
        assert httpx.request(method, f"{place.pipelines_url}/apis/v2beta1/{path}").status_code == 401
    assert connect(place).get_run(run_id).state == "RUNNING"
    connect(place).terminate_run(run_id)
    # What reads makes nothing, whatever it carries.
    body, mark = attack(tmp_path)
    before = run_folders(place)
    assert httpx.request("GET", f"{place.pipelines_url}/apis/v2beta1/runs", content=body, headers=JSON).is_success
    assert run_folders(place) == before
    assert not mark.exists()


def test_kfps_client_without_the_token_is_refused(engine: Process, place: Settings, tmp_path: Path) -> None:
    client = Client(host=place.pipelines_url)
    assert client.list_runs() is not None  # reading is free
    for call in (
        lambda: client.create_run_from_pipeline_package(package(tmp_path, add, left=1, right=2), run_name="stranger"),
        lambda: client.upload_pipeline(package(tmp_path, add, left=1, right=2), pipeline_name="stranger"),
        lambda: client.create_experiment("stranger"),
    ):
        with pytest.raises(ApiException) as error:
            call()
        assert error.value.status == 401
        assert "the secret engine_token" in error.value.body


def test_health_and_metrics_say_when_the_runs_were_looked_at(engine: Process, place: Settings) -> None:
    assert httpx.get(f"{place.pipelines_url}/apis/v2beta1/healthz").status_code == 200
    answer = httpx.get(f"{place.pipelines_url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    (sample,) = [line for line in answer.text.splitlines() if line.startswith(f'{METRIC}{{loop="runs"}}')]
    assert 0 <= time.time() - float(sample.split()[1]) < 60


def test_a_header_has_a_limit(engine: Process, place: Settings) -> None:
    headers = {"x": "y" * (32 << 10)}
    assert httpx.get(f"{place.pipelines_url}/apis/v2beta1/healthz", headers=headers).status_code == 200
    headers = {"x": "y" * (8 << 20)}
    try:
        status = httpx.get(f"{place.pipelines_url}/apis/v2beta1/healthz", headers=headers).status_code
    except httpx.TransportError:  # closed while it was sent
        status = 431
    assert status == 431


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "A run needs a pipeline_version_reference or a pipeline_spec."),
        ({"pipeline_spec": {"a": 1}}, "pipeline_spec is no compiled pipeline: pipelineInfo is missing."),
        ({"pipeline_version_reference": {"pipeline_version_id": "x"}}, "There is no version 'x'."),
    ],
)
def test_wrong_runs_are_refused(engine: Process, place: Settings, body: dict[str, Any], text: str) -> None:
    answer = httpx.post(f"{place.pipelines_url}/apis/v2beta1/runs", json=body, headers=place.bearer("engine_token"))
    assert answer.status_code in {400, 404}
    assert answer.json()["error"] == text


def test_wrong_parameters_are_named(engine: Process, place: Settings) -> None:
    spec = yaml.safe_load((compiling.GENERATED / "titanic.yaml").read_text().split("\n---\n")[0])
    body = {"pipeline_spec": spec, "runtime_config": {"parameters": {"snapsot": "x", "run": "r"}}}
    answer = httpx.post(f"{place.pipelines_url}/apis/v2beta1/runs", json=body, headers=place.bearer("engine_token"))
    assert (
        answer.json()["error"]
        == "Parameters: unknown ['snapsot'], missing ['snapshot']; the pipeline takes ['run', 'snapshot']."
    )


def submit(place: Settings, snapshot: str, run: str) -> tuple[int, str, str]:
    import subprocess

    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "pipelines.run",
            "--project",
            "titanic",
            "--snapshot",
            snapshot,
            "--run",
            run,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def cut_off(engine: Process, mlflow_server: Process, place: Settings, titanic_snapshot: str) -> tuple[int, str]:
    """Exit status and errors of the run `r1` while MLflow was away."""
    mlflow_server.kill()
    try:
        code, _, errors = submit(place, titanic_snapshot, "r1")
    finally:
        mlflow_server.start()
        wait_for("MLflow's return", lambda: answers(f"{place.mlflow_url}/health"))
    return code, errors


def test_a_run_fails_clearly_while_mlflow_is_away(place: Settings, cut_off: tuple[int, str]) -> None:
    code, errors = cut_off
    assert code == 1
    assert f"MLflow at {place.mlflow_url} can't be reached" in errors
    assert "retry the step: what was trained is kept" in errors


def test_its_retry_ends_in_a_registered_version(
    place: Settings, titanic_snapshot: str, cut_off: tuple[int, str]
) -> None:
    code, said, errors = submit(place, titanic_snapshot, "r1")
    assert code == 0, errors
    verdict = json.loads(said)
    assert verdict["passed"]
    assert verdict["champion"] is None
    client = MlflowClient(place.mlflow_url)
    version = client.get_model_version_by_alias("titanic", "challenger")
    assert version.version == verdict["version"]
    assert {
        "phaseflow.sha256",
        "phaseflow.manifest_sha256",
        "phaseflow.snapshot",
        "phaseflow.run",
        "phaseflow.verdict",
        "phaseflow.candidate",
        "phaseflow.source",
        "phaseflow.code",
    } <= version.tags.keys()
    assert version.tags["phaseflow.source"] == "sample"
    assert "## Gate" in version.description
    runs = client.search_runs([client.get_experiment_by_name("titanic").experiment_id])
    assert len(runs) == len(registry.get("titanic").candidates)
    winner = next(run for run in runs if run.info.run_id == version.run_id)
    assert winner.inputs.dataset_inputs[0].dataset.digest == titanic_snapshot
    assert {file.path for file in client.list_artifacts(winner.info.run_id, "plots")} >= {
        "plots/roc.png",
        "plots/confusion.png",
    }
    assert [e["type"] for e in events.read(Store(place.store), "titanic")][-1] == "dev.phaseflow.verdict"
    # The same run once more, as after a crash behind register, makes no second version.
    assert submit(place, titanic_snapshot, "r1")[0] == 0
    assert len(client.search_model_versions("name = 'titanic'")) == 1
    # The same data cannot beat its own champion.
    client.set_registered_model_alias("titanic", "champion", version.version)
    code, said, errors = submit(place, titanic_snapshot, "r2")
    assert code == 0, errors
    assert not json.loads(said)["passed"]
    assert client.get_model_version_by_alias("titanic", "champion").version == version.version


def test_the_committed_pipelines_are_fresh() -> None:
    assert compiling.stale() == [], "run `make generate`"
