"""The engine with KFP's own client, and the whole pipeline through it into a real MLflow."""

# Annotations must be real classes here, because KFP reads those of the components below.
import dataclasses
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

from phaseflow import discovery, events, generated
from phaseflow.errors import PermanentError, PlatformError
from phaseflow.loops import METRIC
from phaseflow.settings import PORTS, ROOT, Settings
from phaseflow.store import Store
from phaseflow.testing import free_port, wait_for
from pipelines import compile as compiling
from pipelines import run as pipelines_run
from pipelines.engine.runs import scratch
from pipelines.tests.conftest import Process, is_up


@pytest.fixture(scope="module")
def engine(settings: Settings) -> Iterator[Process]:
    offset = int(settings.pipelines_url.rsplit(":", 1)[1]) - PORTS["pipelines"]
    argv = [str(settings.python("pipelines")), "-m", "pipelines.engine"]
    process = Process(argv, settings.home / "engine.log", PHASEFLOW_PORT_OFFSET=str(offset))
    process.start()
    wait_for("the engine's start", lambda: is_up(f"{settings.pipelines_url}/apis/v2beta1/healthz"))
    yield process
    process.kill()


def connect(settings: Settings) -> Client:
    return Client(host=settings.pipelines_url, existing_token=settings.secret("engine_token"))


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


def test_kfps_client_works(engine: Process, settings: Settings, tmp_path: Path) -> None:
    client = connect(settings)
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


def test_a_failed_run_says_why(engine: Process, settings: Settings, tmp_path: Path) -> None:
    client = connect(settings)
    run = client.create_run_from_pipeline_package(package(tmp_path, fail), run_name="fails")
    completed_run = client.wait_for_run_completion(run.run_id, timeout=60, sleep_duration=1)
    assert completed_run.state == "FAILED"
    assert "the reason is here" in completed_run.error.message


def started(client: Client, tmp_path: Path, name: str) -> tuple[str, Path]:
    mark = tmp_path / f"{name}.started"
    run = client.create_run_from_pipeline_package(package(tmp_path, wait, path=str(mark)), run_name=name)
    wait_for("the step's start", mark.exists)
    return run.run_id, mark


def test_terminate_ends_the_processes(engine: Process, settings: Settings, tmp_path: Path) -> None:
    client = connect(settings)
    run_id, _ = started(client, tmp_path, "endless")
    assert list(scratch(run_id).iterdir())  # KFP's files of a step
    client.terminate_run(run_id)
    assert client.get_run(run_id).state == "CANCELED"
    folder = str(settings.home / "pipelines" / "runs" / run_id)
    wait_for("the end of its processes", lambda: not [line for line in commands() if folder in line])
    wait_for("the end of its temporary files", lambda: not scratch(run_id).exists())


def commands() -> list[str]:
    command_lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command_lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return command_lines


def test_a_killed_engine_finds_living_runs_again_and_fails_dead_ones(
    engine: Process, settings: Settings, tmp_path: Path
) -> None:
    client = connect(settings)
    living, _ = started(client, tmp_path, "lives on")
    dying, _ = started(client, tmp_path, "dies")
    assert engine.child is not None
    os.kill(engine.child.pid, signal.SIGKILL)
    engine.child.wait()
    record = json.loads((settings.home / "pipelines" / "runs" / dying / "record.json").read_text())
    os.killpg(record["pid"], signal.SIGKILL)
    engine.start()
    wait_for("the engine's return", lambda: is_up(f"{settings.pipelines_url}/apis/v2beta1/healthz"))
    wait_for("the dead run's end", lambda: client.get_run(dying).state == "FAILED")
    assert "killed before it ended" in client.get_run(dying).error.message
    assert client.get_run(living).state == "RUNNING"
    client.terminate_run(living)


def run_folders(settings: Settings) -> set[str]:
    return {path.name for path in (settings.home / "pipelines" / "runs").glob("*")}


def attack(tmp_path: Path) -> tuple[bytes, Path]:
    """Return a run, as JSON, that creates a file, and the path of that file."""
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
    engine: Process, settings: Settings, tmp_path: Path, headers: dict[str, str], token: bool, status: int
) -> None:
    body, mark = attack(tmp_path)
    before = run_folders(settings)
    headers = headers | (settings.bearer("engine_token") if token else {})
    response = httpx.post(f"{settings.pipelines_url}/apis/v2beta1/runs", content=body, headers=headers)
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error", "code", "message", "details"}
    assert run_folders(settings) == before
    assert not mark.exists()


def test_nothing_is_changed_without_the_token(engine: Process, settings: Settings, tmp_path: Path) -> None:
    run_id, _ = started(connect(settings), tmp_path, "goes on")
    spec = Path(package(tmp_path, add, left=1, right=2)).read_bytes()
    for path in ("upload?name=stranger", "upload_version?pipelineid=x"):
        response = httpx.post(f"{settings.pipelines_url}/apis/v2beta1/pipelines/{path}", files={"uploadfile": spec})
        assert response.status_code == 401, response.text
    for method, path in (("POST", f"runs/{run_id}:terminate"), ("DELETE", f"runs/{run_id}"), ("POST", "experiments")):
        assert httpx.request(method, f"{settings.pipelines_url}/apis/v2beta1/{path}").status_code == 401
    assert connect(settings).get_run(run_id).state == "RUNNING"
    connect(settings).terminate_run(run_id)
    # Reading starts nothing, whatever the request contains.
    body, mark = attack(tmp_path)
    before = run_folders(settings)
    assert httpx.request("GET", f"{settings.pipelines_url}/apis/v2beta1/runs", content=body, headers=JSON).is_success
    assert run_folders(settings) == before
    assert not mark.exists()


def test_kfps_client_without_the_token_is_refused(engine: Process, settings: Settings, tmp_path: Path) -> None:
    client = Client(host=settings.pipelines_url)
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


def test_health_and_metrics_show_the_last_check_of_the_runs(engine: Process, settings: Settings) -> None:
    assert httpx.get(f"{settings.pipelines_url}/apis/v2beta1/healthz").status_code == 200
    response = httpx.get(f"{settings.pipelines_url}/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    (sample,) = [line for line in response.text.splitlines() if line.startswith(f'{METRIC}{{loop="runs"}}')]
    assert 0 <= time.time() - float(sample.split()[1]) < 60


def test_a_header_has_a_limit(engine: Process, settings: Settings) -> None:
    headers = {"x": "y" * (32 << 10)}
    assert httpx.get(f"{settings.pipelines_url}/apis/v2beta1/healthz", headers=headers).status_code == 200
    headers = {"x": "y" * (8 << 20)}
    try:
        status = httpx.get(f"{settings.pipelines_url}/apis/v2beta1/healthz", headers=headers).status_code
    except httpx.TransportError:  # closed while the request was sent
        status = 431
    assert status == 431


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "A run needs a pipeline_version_reference or a pipeline_spec."),
        ({"pipeline_spec": {"a": 1}}, "pipeline_spec is not a compiled pipeline: pipelineInfo is missing."),
        ({"pipeline_version_reference": {"pipeline_version_id": "x"}}, "There is no version 'x'."),
    ],
)
def test_wrong_runs_are_refused(engine: Process, settings: Settings, body: dict[str, Any], text: str) -> None:
    response = httpx.post(
        f"{settings.pipelines_url}/apis/v2beta1/runs", json=body, headers=settings.bearer("engine_token")
    )
    assert response.status_code in {400, 404}
    assert response.json()["error"] == text


def test_wrong_parameters_are_named(engine: Process, settings: Settings) -> None:
    spec = yaml.safe_load((compiling.GENERATED / "titanic.yaml").read_text().split("\n---\n")[0])
    body = {"pipeline_spec": spec, "runtime_config": {"parameters": {"snapsot": "x", "run": "r"}}}
    response = httpx.post(
        f"{settings.pipelines_url}/apis/v2beta1/runs", json=body, headers=settings.bearer("engine_token")
    )
    assert (
        response.json()["error"]
        == "Parameters: unknown ['snapsot'], missing ['snapshot']; the pipeline takes ['run', 'snapshot']."
    )


def test_a_submission_with_a_wrong_token_names_the_secret(engine: Process, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "engine_token").write_text("guess")
    stranger = dataclasses.replace(settings, home=tmp_path)
    message = rf"The engine at {settings.pipelines_url} refuses the token\. Give both the same secret engine_token\."
    with pytest.raises(PermanentError, match=message):
        pipelines_run.run(stranger, discovery.get("titanic"), "s", "r")


def test_a_submission_without_an_engine_names_the_address(settings: Settings) -> None:
    away = dataclasses.replace(settings, pipelines_url=f"http://127.0.0.1:{free_port()}")
    message = rf"The pipeline engine at {away.pipelines_url} can't be reached: .* Start it by `phaseflow up`"
    with pytest.raises(PlatformError, match=message):
        pipelines_run.run(away, discovery.get("titanic"), "s", "r")


def test_a_canceled_run_ends_the_wait(engine: Process, settings: Settings, tmp_path: Path) -> None:
    client = connect(settings)
    running = client.create_run_from_pipeline_package(
        package(tmp_path, wait, path=str(tmp_path / "up")), run_name="canceled"
    )
    client.terminate_run(running.run_id)
    with pytest.raises(PlatformError, match="The pipeline run ended with state CANCELED"):
        pipelines_run._wait(client, running.run_id)


def submit(settings: Settings, snapshot: str, run: str) -> tuple[int, str, str]:
    import subprocess

    completed = subprocess.run(
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
    return completed.returncode, completed.stdout, completed.stderr


@pytest.fixture(scope="module")
def cut_off(engine: Process, mlflow_server: Process, settings: Settings, titanic_snapshot: str) -> tuple[int, str]:
    """Exit status and errors of the run `r1` while MLflow was unavailable."""
    mlflow_server.kill()
    try:
        code, _, errors = submit(settings, titanic_snapshot, "r1")
    finally:
        mlflow_server.start()
        wait_for("MLflow's return", lambda: is_up(f"{settings.mlflow_url}/health"))
    return code, errors


def test_a_run_fails_clearly_while_mlflow_is_away(settings: Settings, cut_off: tuple[int, str]) -> None:
    code, errors = cut_off
    assert code == 1
    assert f"MLflow at {settings.mlflow_url} can't be reached" in errors
    assert "retry the step: what was trained is kept" in errors


def test_its_retry_ends_in_a_registered_version(
    settings: Settings, titanic_snapshot: str, cut_off: tuple[int, str]
) -> None:
    code, output, errors = submit(settings, titanic_snapshot, "r1")
    assert code == 0, errors
    verdict = json.loads(output)
    assert verdict["passed"]
    assert verdict["champion"] is None
    client = MlflowClient(settings.mlflow_url)
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
    assert len(runs) == len(discovery.get("titanic").candidates)
    winner = next(run for run in runs if run.info.run_id == version.run_id)
    assert winner.inputs.dataset_inputs[0].dataset.digest == titanic_snapshot
    assert {"accuracy", "latency_ms", "size_mb"} <= winner.data.metrics.keys()
    model = client.get_logged_model(winner.outputs.model_outputs[0].model_id)
    assert {metric.key: metric.value for metric in model.metrics} == winner.data.metrics
    assert {file.path for file in client.list_artifacts(winner.info.run_id, "plots")} >= {
        "plots/roc.png",
        "plots/confusion.png",
    }
    assert [e["type"] for e in events.read(Store(settings.store), "titanic")][-1] == "dev.phaseflow.verdict"
    # A retry of the same run, as after a crash behind register, creates no second version.
    assert submit(settings, titanic_snapshot, "r1")[0] == 0
    assert len(client.search_model_versions("name = 'titanic'")) == 1
    # The same data cannot beat its own champion.
    client.set_registered_model_alias("titanic", "champion", version.version)
    code, output, errors = submit(settings, titanic_snapshot, "r2")
    assert code == 0, errors
    assert not json.loads(output)["passed"]
    assert client.get_model_version_by_alias("titanic", "champion").version == version.version


def test_the_committed_pipelines_are_fresh() -> None:
    assert generated.stale(compiling.GENERATED, compiling.files()) == [], "run `make generate`"
