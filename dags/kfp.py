"""Runs a compiled pipeline through Kubeflow Pipelines' REST API (v2beta1), on a KFP server or on the embedded engine.

https://www.kubeflow.org/docs/components/pipelines/reference/api/kubeflow-pipeline-api-spec/
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final

import httpx
from airflow.sdk import BaseOperator, BaseOperatorLink, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from airflow.sdk.execution_time.xcom import XCom
from airflow.sdk.types import TaskInstanceKey
from airflow.triggers.base import BaseTrigger, TriggerEvent

from dags import cluster
from dags.modules import environment
from phaseflow.clients.kfp import API, ENDED, SUCCEEDED, TOKEN
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT, Settings, from_environment
from phaseflow.store import Store
from phaseflow.verdict import figure

URL_KEY: Final = "kfp_run_url"
POLL_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 300.0
"""How long the server may be unavailable before the task gives up."""
TIMEOUT_SECONDS: Final = 2 * 3600.0
"""Maximum duration of a run."""
TAIL_LINES: Final = 60


class RunLink(BaseOperatorLink):
    """A link to the pipeline run."""

    name = "Pipeline run"
    xcom_key = URL_KEY

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002  # Airflow's signature
        """The URL that the task has stored as an XCom; empty if there is none."""
        return XCom.get_value(ti_key=ti_key, key=URL_KEY) or ""


class KFPRunOperator(BaseOperator):
    """Runs the project's pipeline without occupying a worker, and returns the gate's verdict.

    A retry joins the run that an earlier attempt started, if it is still live. Raises AirflowException with the run's error if it fails.
    """

    template_fields: Sequence[str] = ("snapshot", "run")
    operator_extra_links = (RunLink(),)

    def __init__(self, *, project: str, snapshot: str, run: str, environment: str = "tabular", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.project = project
        self.environment = environment
        self.snapshot = snapshot
        self.run = run
        self._run_id: str | None = None

    def execute(self, context: Context) -> Any:
        """Start the run or join it, and defer to the triggerer."""
        settings = from_environment()
        name = f"{self.project} {self.run}"
        with connect(settings) as client:
            if (run := live_run(client, name)) is not None:
                self.log.info("Joining the run that an earlier attempt started")
            else:
                # KFP may store pipelines as Kubernetes objects, whose names can't contain underscores.
                pipeline = compiled(settings, self.project)
                if settings.images:
                    pipeline = cluster.with_cluster_settings(pipeline, settings, self.environment)
                reference = pipeline_version(client, self.project.replace("_", "-"), pipeline)
                run = start(client, name, reference, {"snapshot": self.snapshot, "run": self.run})
        self._run_id = run["run_id"]
        url = f"{settings.pipelines_url}{API}/runs/{self._run_id}"
        self.log.info("Pipeline run: %s", url)
        context["ti"].xcom_push(key=URL_KEY, value=run_page(settings, self._run_id))
        raise TaskDeferred(trigger=KFPRunTrigger(url=url, deadline=time.time() + TIMEOUT_SECONDS), method_name="finish")

    def finish(self, context: Context, event: Mapping[str, str]) -> dict[str, Any]:  # noqa: ARG002  # Airflow's signature
        """Return the verdict of a run that succeeded; raises AirflowException with the reason otherwise."""
        settings = from_environment()
        if event["state"] != SUCCEEDED:
            with connect(settings) as client:
                for line in log_tail(client, event["run_id"]):
                    self.log.error("%s", line)
                if event["state"] not in ENDED:
                    terminate(client, event["run_id"])
            raise AirflowException(f"The pipeline run is {event['state']}: {event['error'] or 'without a reason'}")
        key = f"runs/{self.project}/{self.run}/verdict.json"
        try:
            verdict: dict[str, Any] = json.loads(Store(settings.store).read(key))
        except FileNotFoundError as error:
            raise AirflowFailException(
                f"The pipeline run succeeded, but {key} is not in the store {settings.store}. "
                "Give Airflow and the pipeline engine the same PHASEFLOW_STORE."
            ) from error
        for line in table(verdict):
            self.log.info("%s", line)
        return verdict

    def on_kill(self) -> None:
        """Cancel the run if the task is killed before it is deferred; afterwards the trigger cancels it."""
        if self._run_id is not None:
            with contextlib.suppress(httpx.HTTPError, PlatformError), connect(from_environment()) as client:
                terminate(client, self._run_id)


class KFPRunTrigger(BaseTrigger):
    """Waits for the end of a run; `deadline` is in Unix seconds, so that it survives a restart of the triggerer."""

    def __init__(
        self, *, url: str, deadline: float, poll: float = POLL_SECONDS, patience: float = PATIENCE_SECONDS
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's triggers have no types
        self.url = url
        self.deadline = deadline
        self.poll = poll
        self.patience = patience

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        arguments = {"url": self.url, "deadline": self.deadline, "poll": self.poll, "patience": self.patience}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: the run's id, its state (UNREACHABLE or TIMEOUT if it has not ended) and its error."""
        last_response = time.monotonic()
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            while True:
                try:
                    response = await client.get(self.url)
                    response.raise_for_status()
                    run = response.json()
                    last_response = time.monotonic()
                    if run["state"] in ENDED:
                        yield self._event(run["state"], (run.get("error") or {}).get("message", ""))
                        return
                except (httpx.HTTPError, ValueError) as error:
                    not_found = isinstance(error, httpx.HTTPStatusError) and error.response.status_code == 404
                    if not_found or time.monotonic() - last_response > self.patience:
                        yield self._event("UNREACHABLE", f"{self.url}: {error}")
                        return
                if time.time() > self.deadline:
                    yield self._event("TIMEOUT", "it took too long and was cancelled")
                    return
                await asyncio.sleep(self.poll)

    async def on_kill(self) -> None:
        """Cancel the run, because a person has cleared the task or set its state."""
        # The token is read here, because arguments of the trigger are stored in Airflow's database.
        token = from_environment().bearer(TOKEN)
        async with httpx.AsyncClient(timeout=10, trust_env=False, headers=token) as client:
            await client.post(f"{self.url}:terminate")

    def _event(self, state: str, error: str) -> TriggerEvent:
        return TriggerEvent(  # type: ignore[no-untyped-call]  # as above
            {"run_id": self.url.rsplit("/", 1)[-1], "state": state, "error": error}
        )


@contextlib.contextmanager
def connect(settings: Settings) -> Iterator[httpx.Client]:
    """A client of the API, with the engine's token if there is one; raises PlatformError if no server responds."""
    try:
        with httpx.Client(
            base_url=f"{settings.pipelines_url}{API}", timeout=30, trust_env=False, headers=settings.bearer(TOKEN)
        ) as client:
            yield client
    except httpx.HTTPError as error:
        raise PlatformError(
            f"The pipeline engine at {settings.pipelines_url} can't be reached: {error}",
            fix="Start it with `phaseflow up`",
        ) from error


def pipeline_version(client: httpx.Client, name: str, compiled: bytes) -> dict[str, str]:
    """The reference of the pipeline version with this YAML, which is uploaded if it does not exist yet."""
    file = {"uploadfile": (f"{name}.yaml", compiled, "application/yaml")}
    response = client.get(f"/pipelines/names/{name}")
    if response.status_code == 404:
        response = client.post("/pipelines/upload", params={"name": name, "display_name": name}, files=file)
    pipeline = _object(response)["pipeline_id"]
    # The name contains a hash of the content, except that the version of the first upload has the pipeline's name.
    version_name = f"{name}-{hashlib.sha256(compiled).hexdigest()[:16]}"
    for version in _all(client, f"/pipelines/{pipeline}/versions", "pipeline_versions", {"sort_by": "created_at desc"}):
        if version_name in {version.get("name"), version.get("display_name")}:
            break
    else:
        query = {"name": version_name, "display_name": version_name, "pipelineid": pipeline}
        version = _object(client.post("/pipelines/upload_version", params=query, files=file))
    return {"pipeline_id": pipeline, "pipeline_version_id": version["pipeline_version_id"]}


def live_run(client: httpx.Client, display_name: str) -> dict[str, Any] | None:
    """The run of this name that has not ended; None if there is none."""
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": display_name}
    query = {"filter": json.dumps({"predicates": [predicate]}), "sort_by": "created_at desc"}
    runs = _all(client, "/runs", "runs", query)
    return next((run for run in runs if run["display_name"] == display_name and run["state"] not in ENDED), None)


def start(
    client: httpx.Client, display_name: str, reference: Mapping[str, str], parameters: Mapping[str, str]
) -> dict[str, Any]:
    """Start a new run of a pipeline version."""
    body = {
        "display_name": display_name,
        "pipeline_version_reference": reference,
        "runtime_config": {"parameters": parameters},
    }
    return _object(client.post("/runs", json=body))


def terminate(client: httpx.Client, run_id: str) -> None:
    """Cancel a run; it is no error if the run has ended or does not exist."""
    client.post(f"/runs/{run_id}:terminate")


def log_tail(client: httpx.Client, run_id: str) -> list[str]:
    """The last lines of the run's log; with a KFP server, whose API has no logs, those of the run's failed pods."""
    response = client.get(f"/runs/{run_id}/log")
    if response.is_success:
        return response.text.splitlines()[-TAIL_LINES:]
    return list(cluster.failed_logs(run_id, TAIL_LINES))


def run_page(settings: Settings, run_id: str) -> str:
    """URL of the run for a person: the page in KFP's user interface if there is one, otherwise the engine's API."""
    if settings.kfp_page:
        return f"{settings.page('pipelines')}/#/runs/details/{run_id}"
    return f"{settings.page('pipelines')}{API}/runs/{run_id}"


def table(verdict: Mapping[str, Any]) -> Iterator[str]:
    """The verdict as lines of text, with one line per check."""
    decision = "passed" if verdict["passed"] else "did not pass"
    yield f"{verdict['candidate']} (version {verdict['version']}) {decision} the gate; champion: {verdict['champion']}"
    rows = [("check", "found", "allowed", "")]
    rows += [
        (check["check"], figure(check["observed"]), figure(check["required"]), "ok" if check["passed"] else "REFUSED")
        for check in verdict["checks"]
    ]
    if verdict.get("why"):
        yield str(verdict["why"])
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()


def compiled(settings: Settings, project: str) -> bytes:
    """The project's pipeline: compiled from its current declaration, or (in an image without KFP's compiler) the committed file.

    Raises AirflowFailException if it can't be compiled or does not exist.
    """
    python, path = settings.python("pipelines"), ROOT / "pipelines" / "generated" / f"{project}.yaml"
    if python.exists():
        command = [str(python), "-m", "pipelines.compile", "--print", project]
        completed = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, timeout=300, check=False)
        if completed.returncode < 0:  # killed by a signal
            raise AirflowException(f"The pipeline's compiler ended with {completed.returncode}")
        if completed.returncode:
            raise AirflowFailException(f"The pipeline can't be compiled:\n{completed.stderr.decode(errors='replace')}")
        return completed.stdout
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise AirflowFailException(f"{path} does not exist. Compile it with `make generate`.") from error


def _object(response: httpx.Response) -> dict[str, Any]:
    """The JSON of a successful response; raises AirflowFailException if the server refuses the call, PlatformError if it fails."""
    if response.status_code == 400:
        raise AirflowFailException(
            f"The pipeline engine refuses {response.request.url.path}: {response.text[:1000]} "
            "Compile the pipelines again with `make generate`."
        )
    if response.status_code == 401:
        raise AirflowFailException(
            f"The pipeline engine refuses the token: {response.text[:1000]} Give Airflow and the engine the same secret {TOKEN}."
        )
    if response.is_error:
        raise PlatformError(
            f"{response.request.method} {response.request.url.path} responded {response.status_code}: {response.text[:1000]}",
            fix="Read the engine's log with `phaseflow logs pipelines`",
        )
    return dict(response.json())


def _all(client: httpx.Client, path: str, field: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield every record of a list, page by page."""
    token = ""
    while True:
        page = _object(client.get(path, params={**query, "page_size": "50", "page_token": token}))
        yield from page.get(field) or ()
        token = page.get("next_page_token") or ""
        if not token:
            return
