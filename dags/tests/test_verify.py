from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred

from dags import factory
from dags.monitor import ReportOperator
from dags.verify import ServedTrigger, VerifyOperator
from phaseflow import Project, discovery, prediction_types
from phaseflow.testing import Request, Response, http_server

EXAMPLE = dict(discovery.get("titanic").example)


class Service:
    """A fake of the service and the monitor over HTTP: one status and one JSON object per path."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.requests: list[tuple[str, Any, str | None]] = []
        self.url = ""

    def respond(self, request: Request) -> Response:
        self.requests.append((request.path, request.json, request.headers.get("authorization")))
        status, content = self.answers[request.path]
        return Response(content, status)

    def serves(self, version: str) -> None:
        self.answers["/titanic/model"] = (200, {"version": version})


@pytest.fixture
def service(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    service = Service()
    service.answers["/titanic/predict"] = (200, {"predictions": [{"id": "a-0", "label": "0"}]})
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "hook_token").write_text("s3cret")
    with http_server(service.respond) as service.url:
        for name in ("SERVING", "MONITOR"):
            monkeypatch.setenv(f"PHASEFLOW_{name}_URL", service.url)
        yield service


def context(**results: Any) -> Any:
    class Instance:
        def xcom_pull(self, *, task_ids: str) -> Any:
            return results.get(task_ids)

    return {"ti": Instance(), "task": operator(), "params": {"promote": results.get("promote_param", True)}}


def operator() -> VerifyOperator:
    return VerifyOperator(task_id="verify", project="titanic")


def verdict(*, passed: bool = True, champion: str | None = "1") -> dict[str, Any]:
    checks = [
        {"check": "accuracy", "observed": 0.6, "required": ">= 0.7", "passed": False},
        {"check": "size (MB)", "observed": 1, "required": "<= 10", "passed": True},
    ]
    return {"passed": passed, "version": "2", "champion": champion, "checks": checks}


def test_a_prediction_of_the_promoted_version_is_requested(service: Service) -> None:
    service.serves("2")
    result = operator().execute(context(train=verdict(), promote={"version": "2"}))
    assert result == {"version": "2", "prediction": {"id": "a-0", "label": "0"}}
    assert service.requests[-1][:2] == ("/titanic/predict", EXAMPLE)


@pytest.mark.parametrize("project", discovery.all_projects(), ids=lambda project: project.name)
def test_each_project_s_own_kind_of_answer_is_a_prediction(service: Service, project: Project) -> None:
    """The output of another kind is not a prediction."""
    names = {prediction_types.output_names(project.schema.target, classes)[0] for classes in ((), ("a", "b"))}
    service.answers[f"/{project.name}/model"] = (200, {"version": "2"})
    verify = VerifyOperator(task_id="verify", project=project.name)
    for name in names:
        service.answers[f"/{project.name}/predict"] = (200, {"predictions": [{"id": "a-0", name: 1}]})
        result = verify.execute(context(train=verdict(), promote={"version": "2"}))
        assert result["prediction"] == {"id": "a-0", name: 1}
    service.answers[f"/{project.name}/predict"] = (200, {"predictions": [{"id": "a-0", "mask": 1}]})
    with pytest.raises(AirflowException, match="/predict returned no prediction"):
        verify.execute(context(train=verdict(), promote={"version": "2"}))


def test_without_a_promotion_the_champion_of_before_must_be_served(service: Service) -> None:
    service.serves("1")
    assert operator().execute(context(train=verdict(passed=False)))["version"] == "1"


def test_the_triggerer_waits_for_a_champion_that_is_not_loaded_yet(service: Service) -> None:
    for response in ((200, {"version": "1"}), (404, {"detail": "no model"})):
        service.answers["/titanic/model"] = response
        with pytest.raises(TaskDeferred) as deferred:
            operator().execute(context(train=verdict(), promote={"version": "2"}))
        assert deferred.value.method_name == "finish"

    async def swap() -> Any:
        path, arguments = deferred.value.trigger.serialize()
        assert path == "dags.verify.ServedTrigger"
        waiting = asyncio.ensure_future(anext(ServedTrigger(**arguments).run()))
        count = len(service.requests)
        while len(service.requests) == count:  # noqa: ASYNC110  # another thread counts them
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
    with pytest.raises(AirflowException, match="/titanic/model still serves 1, not version 2"):
        operator().finish({}, asyncio.run(first(late)))


def test_a_missing_champion_is_reported_and_not_retried(service: Service) -> None:
    with pytest.raises(AirflowFailException, match="titanic has no champion: its first version 2 was not promoted"):
        operator().execute(context(train=verdict(passed=False, champion=None)))


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ((422, {"detail": "age"}), "responded 422: .*age"),
        ((200, {"predictions": []}), "returned no prediction"),
        ((200, {"predictions": [{"id": "a-0"}]}), "returned no prediction"),
        ((200, {}), "returned no prediction"),
    ],
)
def test_a_wrong_response_fails_and_is_reported(service: Service, response: tuple[int, Any], message: str) -> None:
    service.serves("2")
    service.answers["/titanic/predict"] = response
    with pytest.raises(AirflowException, match=message):
        operator().execute(context(train=verdict(), promote={"version": "2"}))


def test_promote_is_skipped_with_the_gates_reasons() -> None:
    with pytest.raises(AirflowSkipException, match=r"^The gate refused version 2: accuracy is 0\.6, allowed >= 0\.7$"):
        factory._only_if_promoted(context(train=verdict(passed=False)))


def test_promote_is_skipped_on_request() -> None:
    with pytest.raises(AirflowSkipException, match="stays challenger, as requested"):
        factory._only_if_promoted(context(train=verdict(), promote_param=False))
    factory._only_if_promoted(context(train=verdict()))


def test_a_confirmed_champion_is_promoted_unless_declined() -> None:
    confirmed = verdict(passed=False) | {"confirmed": "3"}
    factory._only_if_promoted(context(train=confirmed))
    with pytest.raises(
        AirflowSkipException, match=r"^The champion was confirmed as version 3; it is not promoted, as requested\.$"
    ):
        factory._only_if_promoted(context(train=confirmed, promote_param=False))


def test_the_report_is_requested_with_the_token_and_returned(service: Service) -> None:
    service.answers["/projects/titanic/report"] = (200, {"rows": 300, "drifted": 1})
    task = ReportOperator(task_id="report", project="titanic")
    assert task.execute({}) == {"rows": 300, "drifted": 1}
    assert service.requests[-1][2] == "Bearer s3cret"


def test_an_empty_window_is_skipped_and_an_error_raised(service: Service) -> None:
    task = ReportOperator(task_id="report", project="titanic")
    service.answers["/projects/titanic/report"] = (200, {"rows": 0, "reason": "no requests"})
    with pytest.raises(AirflowSkipException, match="no requests"):
        task.execute({})
    service.answers["/projects/titanic/report"] = (500, {"detail": "boom"})
    with pytest.raises(AirflowException, match=r"responded 500: .*boom"):
        task.execute({})
