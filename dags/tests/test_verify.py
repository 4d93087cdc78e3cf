from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred

from dags import factory
from dags.monitor import ReportOperator
from dags.verify import ServedTrigger, VerifyOperator
from phaseflow import Project, answers, registry

EXAMPLE = dict(registry.get("titanic").example)


class Service:
    """What the service and the monitor answer, over HTTP: a status and an object each path."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, Any, str | None]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                service.asked.append((self.path, json.loads(body) if body else None, self.headers["Authorization"]))
                status, content = service.answers[self.path]
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET  # noqa: N815  # the name that http.server looks for

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def serves(self, version: str) -> None:
        self.answers["/titanic/model"] = (200, {"version": version})


@pytest.fixture
def service(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    service = Service()
    service.answers["/titanic/predict"] = (200, {"predictions": [{"id": "a-0", "label": "0"}]})
    for name in ("SERVING", "MONITOR"):
        monkeypatch.setenv(f"PHASEFLOW_{name}_URL", service.url)
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "hook_token").write_text("s3cret")
    yield service
    service.server.shutdown()
    service.server.server_close()


def context(**results: Any) -> Any:
    class Instance:
        def xcom_pull(self, *, task_ids: str) -> Any:
            return results.get(task_ids)

    return {"ti": Instance(), "task": operator(), "params": {"promote": results.get("asked", True)}}


def operator() -> VerifyOperator:
    return VerifyOperator(task_id="verify", project="titanic")


def verdict(*, passed: bool = True, champion: str | None = "1") -> dict[str, Any]:
    checks = [
        {"check": "accuracy", "found": 0.6, "allowed": ">= 0.7", "passed": False},
        {"check": "size (MB)", "found": 1, "allowed": "<= 10", "passed": True},
    ]
    return {"passed": passed, "version": "2", "champion": champion, "checks": checks}


def test_what_was_promoted_is_asked_for_a_prediction(service: Service) -> None:
    service.serves("2")
    done = operator().execute(context(train=verdict(), promote={"version": "2"}))
    assert done == {"version": "2", "prediction": {"id": "a-0", "label": "0"}}
    assert service.asked[-1][:2] == ("/titanic/predict", EXAMPLE)


@pytest.mark.parametrize("project", registry.all_projects(), ids=lambda project: project.name)
def test_each_project_s_own_kind_of_answer_is_a_prediction(service: Service, project: Project) -> None:
    """And of another kind is none."""
    names = {answers.outputs(project.schema.target, classes)[0] for classes in ((), ("a", "b"))}
    service.answers[f"/{project.name}/model"] = (200, {"version": "2"})
    verify = VerifyOperator(task_id="verify", project=project.name)
    for name in names:
        service.answers[f"/{project.name}/predict"] = (200, {"predictions": [{"id": "a-0", name: 1}]})
        found = verify.execute(context(train=verdict(), promote={"version": "2"}))
        assert found["prediction"] == {"id": "a-0", name: 1}
    service.answers[f"/{project.name}/predict"] = (200, {"predictions": [{"id": "a-0", "mask": 1}]})
    with pytest.raises(AirflowException, match="/predict answers no prediction"):
        verify.execute(context(train=verdict(), promote={"version": "2"}))


def test_without_a_promotion_the_champion_of_before_must_be_served(service: Service) -> None:
    service.serves("1")
    assert operator().execute(context(train=verdict(passed=False)))["version"] == "1"


def test_a_champion_that_is_not_loaded_yet_is_waited_for_by_the_triggerer(service: Service) -> None:
    for answer in ((200, {"version": "1"}), (404, {"detail": "no model"})):
        service.answers["/titanic/model"] = answer
        with pytest.raises(TaskDeferred) as deferred:
            operator().execute(context(train=verdict(), promote={"version": "2"}))
        assert deferred.value.method_name == "finish"

    async def swap() -> Any:
        path, arguments = deferred.value.trigger.serialize()
        assert path == "dags.verify.ServedTrigger"
        waiting = asyncio.ensure_future(anext(ServedTrigger(**arguments).run()))
        asked = len(service.asked)
        while len(service.asked) == asked:  # noqa: ASYNC110  # another thread counts them
            await asyncio.sleep(0.01)
        service.serves("2")
        return (await waiting).payload

    event = asyncio.run(asyncio.wait_for(swap(), 20))
    assert operator().finish({}, event)["version"] == "2"


def test_a_service_that_keeps_the_old_model_fails_with_what_it_serves(service: Service) -> None:
    service.serves("1")

    async def first(trigger: ServedTrigger) -> Any:
        return (await anext(trigger.run())).payload

    late = ServedTrigger(url=f"{service.url}/titanic", version="2", deadline=time.time() - 1)
    with pytest.raises(AirflowException, match="/titanic/model answers 1, not version 2"):
        operator().finish({}, asyncio.run(first(late)))


def test_no_champion_at_all_is_said_and_not_retried(service: Service) -> None:
    with pytest.raises(AirflowFailException, match="titanic has no champion: its first version 2 was not promoted"):
        operator().execute(context(train=verdict(passed=False, champion=None)))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((422, {"detail": "age"}), "answers 422: .*age"),
        ((200, {"predictions": []}), "answers no prediction"),
        ((200, {"predictions": [{"id": "a-0"}]}), "answers no prediction"),
        ((200, {}), "answers no prediction"),
    ],
)
def test_a_wrong_answer_fails_with_it(service: Service, answer: tuple[int, Any], message: str) -> None:
    service.serves("2")
    service.answers["/titanic/predict"] = answer
    with pytest.raises(AirflowException, match=message):
        operator().execute(context(train=verdict(), promote={"version": "2"}))


def test_promote_is_skipped_with_the_gates_reasons() -> None:
    with pytest.raises(AirflowSkipException, match=r"^The gate refused version 2: accuracy is 0\.6, allowed >= 0\.7$"):
        factory._only_if_promoted(context(train=verdict(passed=False)))


def test_promote_is_skipped_where_that_was_asked() -> None:
    with pytest.raises(AirflowSkipException, match="stays challenger, as was asked"):
        factory._only_if_promoted(context(train=verdict(), asked=False))
    factory._only_if_promoted(context(train=verdict()))


def test_a_confirmed_champion_is_promoted_unless_that_was_not_asked_for() -> None:
    confirmed = verdict(passed=False) | {"confirmed": "3"}
    factory._only_if_promoted(context(train=confirmed))
    with pytest.raises(
        AirflowSkipException, match=r"^The champion was confirmed as version 3; it is not promoted, as was asked\.$"
    ):
        factory._only_if_promoted(context(train=confirmed, asked=False))


def test_the_report_is_asked_for_with_the_token_and_returned(service: Service) -> None:
    service.answers["/projects/titanic/report"] = (200, {"rows": 300, "drifted": 1})
    task = ReportOperator(task_id="report", project="titanic")
    assert task.execute({}) == {"rows": 300, "drifted": 1}
    assert service.asked[-1][2] == "Bearer s3cret"


def test_an_empty_window_is_skipped_and_an_error_told(service: Service) -> None:
    task = ReportOperator(task_id="report", project="titanic")
    service.answers["/projects/titanic/report"] = (200, {"rows": 0, "reason": "no requests"})
    with pytest.raises(AirflowSkipException, match="no requests"):
        task.execute({})
    service.answers["/projects/titanic/report"] = (500, {"detail": "boom"})
    with pytest.raises(AirflowException, match=r"answers 500: .*boom"):
        task.execute({})
