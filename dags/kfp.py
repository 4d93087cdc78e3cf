"""Runs a compiled pipeline by Kubeflow Pipelines' REST calls (v2beta1), on a KFP server or the embedded engine alike.

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
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT, Settings, from_environment
from phaseflow.store import Store
from phaseflow.verdict import figure

API: Final = "/apis/v2beta1"
ENDED: Final = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})
URL_KEY: Final = "kfp_run_url"
POLL_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 300.0
"""How long the server may be away before the task gives up."""
TIMEOUT_SECONDS: Final = 2 * 3600.0
"""How long a run may take."""
TAIL_LINES: Final = 60
TOKEN: Final = "engine_token"  # noqa: S105  # the secret's name; a KFP server has none


class RunLink(BaseOperatorLink):
    """The run, as KFP's API shows it."""

    name = "Pipeline run"
    xcom_key = URL_KEY

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002  # Airflow's signature
        """What the task has kept under the link's key."""
        return XCom.get_value(ti_key=ti_key, key=URL_KEY) or ""


class KFPRunOperator(BaseOperator):
    """Runs the project's pipeline without holding a worker, and gives the gate's verdict.

    A retry joins the live run that an earlier try has made. Raises AirflowException with the run's error where it fails.
    """

    template_fields: Sequence[str] = ("snapshot", "run")
    operator_extra_links = (RunLink(),)

    def __init__(self, *, project: str, snapshot: str, run: str, family: str = "tabular", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.project = project
        self.family = family
        self.snapshot = snapshot
        self.run = run
        self._run_id: str | None = None

    def execute(self, context: Context) -> Any:
        """Start the run, or join it, and hand it to the triggerer."""
        settings = from_environment()
        name = f"{self.project} {self.run}"
        with connect(settings) as client:
            if (run := live_run(client, name)) is not None:
                self.log.info("Joining the run that an earlier try has started")
            else:
                # KFP on Kubernetes may keep pipelines as its objects, whose names have no underscore.
                pipeline = compiled(settings, self.project)
                if settings.images:
                    pipeline = cluster.submitted(pipeline, settings, self.family)
                reference = pipeline_version(client, self.project.replace("_", "-"), pipeline)
                run = start(client, name, reference, {"snapshot": self.snapshot, "run": self.run})
        self._run_id = run["run_id"]
        url = f"{settings.pipelines_url}{API}/runs/{self._run_id}"
        self.log.info("Pipeline run: %s", url)
        context["ti"].xcom_push(key=URL_KEY, value=run_page(settings, self._run_id))
        raise TaskDeferred(trigger=KFPRunTrigger(url=url, deadline=time.time() + TIMEOUT_SECONDS), method_name="finish")

    def finish(self, context: Context, event: Mapping[str, str]) -> dict[str, Any]:  # noqa: ARG002  # Airflow's signature
        """What the run came to."""
        settings = from_environment()
        if event["state"] != "SUCCEEDED":
            with connect(settings) as client:
                for line in log_tail(client, event["run_id"]):
                    self.log.error("%s", line)
                if event["state"] not in ENDED:
                    terminate(client, event["run_id"])
            raise AirflowException(f"The pipeline run is {event['state']}: {event['error'] or 'no reason is given'}")
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
        """Cancel the run when the task is killed before it is deferred; afterwards the trigger does so."""
        if self._run_id is not None:
            with contextlib.suppress(httpx.HTTPError, PlatformError), connect(from_environment()) as client:
                terminate(client, self._run_id)


class KFPRunTrigger(BaseTrigger):
    """Waits for the end of a run; `deadline` is in unix seconds, so that a restarted triggerer keeps it."""

    def __init__(
        self, *, url: str, deadline: float, poll: float = POLL_SECONDS, patience: float = PATIENCE_SECONDS
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's triggers have no types
        self.url = url
        self.deadline = deadline
        self.poll = poll
        self.patience = patience

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        arguments = {"url": self.url, "deadline": self.deadline, "poll": self.poll, "patience": self.patience}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event: the run's id, its state (UNREACHABLE or TIMEOUT where it has not ended) and its error."""
        answered = time.monotonic()
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            while True:
                try:
                    answer = await client.get(self.url)
                    answer.raise_for_status()
                    run = answer.json()
                    answered = time.monotonic()
                    if run["state"] in ENDED:
                        yield self._event(run["state"], (run.get("error") or {}).get("message", ""))
                        return
                except (httpx.HTTPError, ValueError) as error:
                    gone = isinstance(error, httpx.HTTPStatusError) and error.response.status_code == 404
                    if gone or time.monotonic() - answered > self.patience:
                        yield self._event("UNREACHABLE", f"{self.url}: {error}")
                        return
                if time.time() > self.deadline:
                    yield self._event("TIMEOUT", "it took too long, and is cancelled")
                    return
                await asyncio.sleep(self.poll)

    async def on_kill(self) -> None:
        """Cancel the run: a person has cleared, failed or finished the task."""
        # The token is read here: an argument of the trigger would be kept in Airflow's database.
        token = from_environment().bearer(TOKEN)
        async with httpx.AsyncClient(timeout=10, trust_env=False, headers=token) as client:
            await client.post(f"{self.url}:terminate")

    def _event(self, state: str, error: str) -> TriggerEvent:
        return TriggerEvent(  # type: ignore[no-untyped-call]  # as above
            {"run_id": self.url.rsplit("/", 1)[-1], "state": state, "error": error}
        )


@contextlib.contextmanager
def connect(settings: Settings) -> Iterator[httpx.Client]:
    """A client of the API, with the engine's token where there is one; raises PlatformError where no server answers."""
    try:
        with httpx.Client(
            base_url=f"{settings.pipelines_url}{API}", timeout=30, trust_env=False, headers=settings.bearer(TOKEN)
        ) as client:
            yield client
    except httpx.HTTPError as error:
        raise PlatformError(
            f"The pipeline engine at {settings.pipelines_url} can't be reached: {error}",
            fix="Start it by `phaseflow up`",
        ) from error


def pipeline_version(client: httpx.Client, name: str, compiled: bytes) -> dict[str, str]:
    """The reference of the pipeline's version that has this YAML, uploaded where there is none yet."""
    file = {"uploadfile": (f"{name}.yaml", compiled, "application/yaml")}
    found = client.get(f"/pipelines/names/{name}")
    if found.status_code == 404:
        found = client.post("/pipelines/upload", params={"name": name, "display_name": name}, files=file)
    pipeline = _object(found)["pipeline_id"]
    # The name says the content; the version that the first upload makes has the pipeline's name.
    wanted = f"{name}-{hashlib.sha256(compiled).hexdigest()[:16]}"
    for version in _all(client, f"/pipelines/{pipeline}/versions", "pipeline_versions", {"sort_by": "created_at desc"}):
        if wanted in {version.get("name"), version.get("display_name")}:
            break
    else:
        query = {"name": wanted, "display_name": wanted, "pipelineid": pipeline}
        version = _object(client.post("/pipelines/upload_version", params=query, files=file))
    return {"pipeline_id": pipeline, "pipeline_version_id": version["pipeline_version_id"]}


def live_run(client: httpx.Client, display_name: str) -> dict[str, Any] | None:
    """The run of that name that has not ended, if there is one."""
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": display_name}
    query = {"filter": json.dumps({"predicates": [predicate]}), "sort_by": "created_at desc"}
    runs = _all(client, "/runs", "runs", query)
    return next((run for run in runs if run["display_name"] == display_name and run["state"] not in ENDED), None)


def start(
    client: httpx.Client, display_name: str, reference: Mapping[str, str], parameters: Mapping[str, str]
) -> dict[str, Any]:
    """A new run."""
    body = {
        "display_name": display_name,
        "pipeline_version_reference": reference,
        "runtime_config": {"parameters": parameters},
    }
    return _object(client.post("/runs", json=body))


def terminate(client: httpx.Client, run_id: str) -> None:
    """Cancel a run; one that has ended or is gone is no error."""
    client.post(f"/runs/{run_id}:terminate")


def log_tail(client: httpx.Client, run_id: str) -> list[str]:
    """The last lines that the run printed; those of its failed pods from a KFP server, whose API has no logs."""
    answer = client.get(f"/runs/{run_id}/log")
    if answer.is_success:
        return answer.text.splitlines()[-TAIL_LINES:]
    return list(cluster.failed_logs(run_id, TAIL_LINES))


def run_page(settings: Settings, run_id: str) -> str:
    """Where a person sees the run: KFP's page where there is one, else the engine's answer."""
    if settings.kfp_page:
        return f"{settings.page('pipelines')}/#/runs/details/{run_id}"
    return f"{settings.page('pipelines')}{API}/runs/{run_id}"


def table(verdict: Mapping[str, Any]) -> Iterator[str]:
    """The verdict, a line a check."""
    decided = "passed" if verdict["passed"] else "did not pass"
    yield f"{verdict['candidate']} (version {verdict['version']}) {decided} the gate; champion: {verdict['champion']}"
    rows = [("check", "found", "allowed", "")]
    rows += [
        (check["check"], figure(check["found"]), figure(check["allowed"]), "ok" if check["passed"] else "REFUSED")
        for check in verdict["checks"]
    ]
    if verdict.get("why"):
        yield str(verdict["why"])
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()


def compiled(settings: Settings, project: str) -> bytes:
    """The project's pipeline: from the declaration as it is now where KFP's compiler is, else (in an image) the committed one.

    Raises AirflowFailException where it can't be compiled or is not there.
    """
    python, path = settings.python("pipelines"), ROOT / "pipelines" / "generated" / f"{project}.yaml"
    if python.exists():
        argv = [str(python), "-m", "pipelines.compile", "--print", project]
        done = subprocess.run(argv, cwd=ROOT, env=environment(), capture_output=True, timeout=300, check=False)
        if done.returncode < 0:  # something killed it
            raise AirflowException(f"The pipeline's compiler ended with {done.returncode}")
        if done.returncode:
            raise AirflowFailException(f"The pipeline can't be compiled:\n{done.stderr.decode(errors='replace')}")
        return done.stdout
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise AirflowFailException(f"{path} does not exist. Compile it by `make generate`.") from error


def _object(answer: httpx.Response) -> dict[str, Any]:
    """The JSON of a call that worked; raises AirflowFailException where the server refuses it, PlatformError where it fails."""
    if answer.status_code == 400:
        raise AirflowFailException(
            f"The pipeline engine refuses {answer.request.url.path}: {answer.text[:1000]} "
            "Compile the pipelines again by `make generate`."
        )
    if answer.status_code == 401:
        raise AirflowFailException(
            f"The pipeline engine refuses the token: {answer.text[:1000]} Give Airflow and the engine the same secret {TOKEN}."
        )
    if answer.is_error:
        raise PlatformError(
            f"{answer.request.method} {answer.request.url.path} answers {answer.status_code}: {answer.text[:1000]}",
            fix="Read the engine's log by `phaseflow logs pipelines`",
        )
    return dict(answer.json())


def _all(client: httpx.Client, path: str, field: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Every record of a list, page after page."""
    token = ""
    while True:
        page = _object(client.get(path, params={**query, "page_size": "50", "page_token": token}))
        yield from page.get(field) or ()
        token = page.get("next_page_token") or ""
        if not token:
            return
