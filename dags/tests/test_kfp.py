from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from dags import kfp
from dags.kfp import KFPRunOperator, KFPRunTrigger
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings, from_environment
from phaseflow.testing import Request, Response, http_server

VERDICT = {
    "passed": False,
    "candidate": "random_forest",
    "version": "3",
    "champion": "1",
    "checks": [
        {"check": "accuracy", "observed": 0.81234, "required": ">= 0.7", "passed": True},
        {"check": "gain", "observed": 0.0, "required": "> 0.002", "passed": False},
    ],
}


class Engine:
    """A fake of the KFP calls that are used, over HTTP; a page has two records, so that paging is tested."""

    def __init__(self) -> None:
        self.pipelines: dict[str, str] = {}
        self.versions: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.tokens: list[str | None] = []
        self.token = ""
        """The token that changes need; if empty, they need none, as on a KFP server."""
        self.broken = 0
        self.log: str | None = None
        self.url = ""
        self.stop = contextlib.ExitStack()

    def respond(self, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        path = parts.path.removeprefix("/apis/v2beta1")
        self.calls.append(f"{request.method} {path}")
        self.tokens.append(request.headers.get("authorization"))
        if self.broken > 0:
            self.broken -= 1
            return None
        if self.token and request.method != "GET" and self.tokens[-1] != f"Bearer {self.token}":
            return Response({"message": "The token is missing or wrong."}, 401)
        status, content = self.answer(request.method, path, parse_qs(parts.query), request.body)
        return Response(content, status)

    def answer(  # noqa: PLR0911  # a table of calls
        self, method: str, path: str, query: dict[str, list[str]], body: bytes
    ) -> tuple[int, Any]:
        def parameter(name: str) -> str:
            return query.get(name, [""])[0]

        def page(name: str, records: list[dict[str, Any]]) -> tuple[int, Any]:
            start = int(parameter("page_token") or 0)
            more = str(start + 2) if start + 2 < len(records) else ""
            return 200, {name: records[start : start + 2], "next_page_token": more}

        def version(name: str) -> dict[str, Any]:
            record = {"pipeline_version_id": f"v{len(self.versions)}", "name": name, "content": body.decode()}
            self.versions.insert(0, record)
            return record

        match method, path.strip("/").split("/"):
            case "GET", ["pipelines", "names", name]:
                pipeline_id = self.pipelines.get(name)
                return (200, {"pipeline_id": pipeline_id}) if pipeline_id else (404, {"message": "none"})
            case "POST", ["pipelines", "upload"]:
                self.pipelines[parameter("name")] = "p1"
                version(parameter("name"))
                return 200, {"pipeline_id": "p1"}
            case "POST", ["pipelines", "upload_version"]:
                assert parameter("pipelineid") == "p1"
                return 200, version(parameter("name"))
            case "GET", ["pipelines", "p1", "versions"]:
                return page("pipeline_versions", self.versions)
            case "POST", ["runs"]:
                fields = json.loads(body)
                if "snapshot" not in fields["runtime_config"]["parameters"]:
                    return 400, {"message": "missing ['snapshot']"}
                self.runs.insert(0, {"run_id": f"r{len(self.runs)}", "state": "PENDING", **fields})
                return 200, self.runs[0]
            case "GET", ["runs"]:
                predicate = json.loads(parameter("filter"))["predicates"][0]
                assert predicate["key"] == "display_name"
                return page("runs", [run for run in self.runs if run["display_name"] == predicate["stringValue"]])
            case "GET", ["runs", _, "log"]:
                return (404, "none") if self.log is None else (200, self.log)
            case "POST", ["runs", run_id]:
                self.run(run_id.removesuffix(":terminate"))["state"] = "CANCELED"
                return 200, {}
            case "GET", ["runs", run_id]:
                return next(((200, run) for run in self.runs if run["run_id"] == run_id), (404, {"message": "none"}))
        raise AssertionError(f"{method} {path}")

    def run(self, run_id: str) -> dict[str, Any]:
        return next(run for run in self.runs if run["run_id"] == run_id)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    with engine.stop:
        engine.url = engine.stop.enter_context(http_server(engine.respond))
        yield engine


@pytest.fixture
def settings(engine: Engine, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("PHASEFLOW_PIPELINES_URL", engine.url)
    return from_environment()


class Instance:
    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.pushed[key] = value


def operator() -> KFPRunOperator:
    return KFPRunOperator(task_id="train", project="titanic", snapshot="0123456789abcdef", run="manual__1")


def execute(task: KFPRunOperator) -> tuple[TaskDeferred, Instance]:
    instance = Instance()
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({"ti": instance})  # type: ignore[typeddict-item]  # the part of the context that is used
    return deferred.value, instance


def events(trigger: KFPRunTrigger) -> list[Any]:
    async def collect() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    return asyncio.run(collect())


def trigger(engine: Engine, run_id: str = "r0", **options: float) -> KFPRunTrigger:
    options = {"deadline": time.time() + 20, "poll": 0.01} | options
    return KFPRunTrigger(url=f"{engine.url}/apis/v2beta1/runs/{run_id}", **options)


def test_a_first_run_uploads_the_pipeline_and_starts_it_with_both_parameters(
    engine: Engine, settings: Settings
) -> None:
    deferred, instance = execute(operator())
    (run,) = engine.runs
    assert run["display_name"] == "titanic manual__1"
    assert run["runtime_config"]["parameters"] == {"snapshot": "0123456789abcdef", "run": "manual__1"}
    uploaded_version = next(
        version
        for version in engine.versions
        if version["pipeline_version_id"] == run["pipeline_version_reference"]["pipeline_version_id"]
    )
    assert uploaded_version["name"].startswith("titanic-")
    assert "pipelineInfo" in uploaded_version["content"]
    assert instance.pushed == {"kfp_run_url": f"{settings.pipelines_url}/apis/v2beta1/runs/r0"}
    assert deferred.method_name == "finish"
    assert isinstance(deferred.trigger, KFPRunTrigger)


def test_a_version_is_uploaded_once_for_each_content(engine: Engine, settings: Settings) -> None:
    with kfp.connect(settings) as client:
        first = kfp.pipeline_version(client, "titanic", b"one")
        for content in (b"two", b"three", b"four"):  # more than one page
            assert kfp.pipeline_version(client, "titanic", content) != first
        uploads = sum("upload" in call for call in engine.calls)
        assert kfp.pipeline_version(client, "titanic", b"one") == first
    assert sum("upload" in call for call in engine.calls) == uploads


def test_a_retry_joins_the_live_run_and_not_an_ended_one(engine: Engine, settings: Settings) -> None:
    execute(operator())
    execute(operator())
    assert [run["run_id"] for run in engine.runs] == ["r0"]
    engine.run("r0")["state"] = "FAILED"
    execute(operator())
    assert [run["run_id"] for run in engine.runs] == ["r1", "r0"]


def test_a_refused_run_is_not_retried(engine: Engine, settings: Settings) -> None:
    with (
        kfp.connect(settings) as client,
        pytest.raises(AirflowFailException, match=r"refuses /apis/v2beta1/runs: .*missing \['snapshot'\]"),
    ):
        kfp.start(client, "x", {}, {})


def test_the_error_without_an_engine_tells_how_to_start_it(settings: Settings, engine: Engine) -> None:
    engine.stop.close()
    with pytest.raises(PlatformError, match=r"can't be reached: .*Start it with `phaseflow up`"):
        operator().execute({"ti": Instance()})  # type: ignore[typeddict-item]  # what it uses of the context


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"])
def test_the_trigger_reports_how_the_run_ended(engine: Engine, state: str) -> None:
    engine.runs = [{"run_id": "r0", "state": state, "error": {"code": 13, "message": "why"}}]
    assert events(trigger(engine)) == [{"run_id": "r0", "state": state, "error": "why"}]


def test_the_trigger_waits_while_the_run_goes_on_and_through_lost_connections(engine: Engine) -> None:
    engine.runs = [{"run_id": "r0", "state": "RUNNING"}]
    engine.broken = 5

    async def scenario() -> list[Any]:
        waiting = asyncio.ensure_future(anext(trigger(engine).run()))
        while len(engine.calls) < 10:  # noqa: ASYNC110  # another thread counts them
            await asyncio.sleep(0.01)
        assert not waiting.done()
        engine.run("r0")["state"] = "SUCCEEDED"
        return [(await waiting).payload["state"]]

    assert asyncio.run(asyncio.wait_for(scenario(), 20)) == ["SUCCEEDED"]


def test_the_trigger_gives_up_if_the_engine_stays_unavailable(engine: Engine) -> None:
    engine.broken = 10**9
    (event,) = events(trigger(engine, patience=0.1))
    assert event["state"] == "UNREACHABLE"
    assert engine.url in event["error"]


def test_the_trigger_gives_up_if_the_engine_does_not_know_the_run(engine: Engine) -> None:
    (event,) = events(trigger(engine, "gone", patience=60))
    assert event["state"] == "UNREACHABLE"
    assert "404" in event["error"]


def test_a_run_past_its_deadline_is_cancelled(engine: Engine, settings: Settings) -> None:
    engine.runs = [{"run_id": "r0", "state": "RUNNING"}]
    (event,) = events(trigger(engine, deadline=time.time() - 1))
    with pytest.raises(AirflowException, match="is TIMEOUT: it took too long and was cancelled"):
        operator().finish({}, event)
    assert engine.run("r0")["state"] == "CANCELED"


def test_a_restarted_triggerer_creates_the_same_trigger(engine: Engine) -> None:
    first = trigger(engine)
    path, arguments = first.serialize()
    assert path == "dags.kfp.KFPRunTrigger"
    assert KFPRunTrigger(**json.loads(json.dumps(arguments))).serialize() == first.serialize()


def test_a_killed_task_cancels_its_run(engine: Engine, settings: Settings) -> None:
    task = operator()
    execute(task)
    task.on_kill()
    assert engine.run("r0")["state"] == "CANCELED"
    engine.run("r0")["state"] = "RUNNING"
    asyncio.run(trigger(engine).on_kill())
    assert engine.run("r0")["state"] == "CANCELED"


def test_a_failed_run_raises_its_error_and_logs_the_end_of_its_log(
    engine: Engine, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.log = "\n".join(f"line {number}" for number in range(500))
    event = {"run_id": "r0", "state": "FAILED", "error": "ValueError: too few rows"}
    with pytest.raises(AirflowException, match="is FAILED: ValueError: too few rows"):
        operator().finish({}, event)
    output = capsys.readouterr().out
    assert "line 499 " in output
    assert "line 400 " not in output
    engine.log = None  # like a KFP server, which has no logs
    with pytest.raises(AirflowException, match="is FAILED"):
        operator().finish({}, event)


def test_a_run_that_succeeded_gives_the_verdict(settings: Settings, tmp_path: Any) -> None:
    event = {"run_id": "r0", "state": "SUCCEEDED", "error": ""}
    with pytest.raises(AirflowFailException, match=r"runs/titanic/manual__1/verdict\.json is not in the store"):
        operator().finish({}, event)
    path = tmp_path / "store" / "runs" / "titanic" / "manual__1" / "verdict.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(VERDICT))
    assert operator().finish({}, event) == VERDICT


def test_the_verdict_is_a_table() -> None:
    assert list(kfp.table(VERDICT)) == [
        "random_forest (version 3) did not pass the gate; champion: 1",
        "check     found   allowed",
        "accuracy  0.8123  >= 0.7   ok",
        "gain      0       > 0.002  REFUSED",
    ]


def test_the_same_declaration_compiles_to_the_committed_pipeline(settings: Settings, monkeypatch: Any) -> None:
    fresh = kfp.compiled(settings, "titanic")
    monkeypatch.setenv("PHASEFLOW_VENVS", "/nowhere")
    assert kfp.compiled(from_environment(), "titanic") == fresh
    with pytest.raises(AirflowFailException, match=r"nothing\.yaml does not exist\. Compile it with `make generate`"):
        kfp.compiled(from_environment(), "nothing")


def test_every_change_carries_the_engines_token(engine: Engine, settings: Settings) -> None:
    engine.token = "a-token-of-enough-characters"
    settings.secrets.mkdir()
    (settings.secrets / "engine_token").write_text(engine.token + "\n")
    task = operator()
    deferred, _ = execute(task)
    task.on_kill()
    assert engine.run("r0")["state"] == "CANCELED"
    engine.run("r0")["state"] = "RUNNING"
    asyncio.run(trigger(engine).on_kill())
    assert engine.run("r0")["state"] == "CANCELED"
    assert isinstance(deferred.trigger, KFPRunTrigger)
    # The trigger's arguments are stored in Airflow's database.
    assert engine.token not in json.dumps(deferred.trigger.serialize())


def test_a_wrong_token_is_not_retried(engine: Engine, settings: Settings) -> None:
    engine.token = "a-token-of-enough-characters"
    for token in ("", "another"):
        if token:
            settings.secrets.mkdir()
            (settings.secrets / "engine_token").write_text(token)
        with pytest.raises(AirflowFailException, match="Give Airflow and the engine the same secret engine_token"):
            operator().execute({"ti": Instance()})  # type: ignore[typeddict-item]  # what it uses of the context
    assert engine.runs == []


def test_a_kfp_server_gets_no_token(engine: Engine, settings: Settings) -> None:
    execute(operator())
    assert set(engine.tokens) == {None}


def test_the_client_ignores_proxies(engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with kfp.connect(settings) as client:
        assert kfp.live_run(client, "x") is None
    assert isinstance(client, httpx.Client)
