"""Proves by a real request that the champion is served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import httpx
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent

from phaseflow import answers, registry
from phaseflow.settings import from_environment

WAIT_SECONDS: Final = 120.0
"""How long the service may take to load a champion."""
POLL_SECONDS: Final = 1.0


class VerifyOperator(BaseOperator):
    """Waits until the service answers with the champion, without holding a worker; then asks it for a prediction.

    The champion is the version that was just promoted, else the one that the gate compared with. Raises AirflowFailException
    where there is none, AirflowException where the service has another version after two minutes, or answers wrongly.
    """

    def __init__(self, *, project: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.project = project

    def execute(self, context: Context) -> Any:
        """Ask at once where the champion is served already, else wait in the triggerer."""
        promoted = context["ti"].xcom_pull(task_ids="promote")
        verdict = context["ti"].xcom_pull(task_ids="train")
        version = promoted["version"] if promoted else verdict["champion"]
        if version is None:
            raise AirflowFailException(
                f"{self.project} has no champion: its first version {verdict['version']} was not promoted, so nothing is "
                "served. Read why in the log of promote, then improve the model or promote it by "
                f"`phaseflow promote {self.project}`."
            )
        url = f"{from_environment().serving(self.project)}/{self.project}"
        trigger = ServedTrigger(url=url, version=str(version), deadline=time.time() + WAIT_SECONDS)
        said = _served(url)
        if said != str(version):
            self.log.info("Waiting for version %s; %s answers %s", version, url, said)
            raise TaskDeferred(trigger=trigger, method_name="finish")
        return self._ask(url, str(version))

    def finish(self, context: Context, event: Mapping[str, str]) -> Any:  # noqa: ARG002  # Airflow's signature
        """Go on where the service has the champion."""
        if event["served"] != event["version"]:
            raise AirflowException(
                f"After {WAIT_SECONDS:.0f} s {event['url']}/model answers {event['served']}, not version "
                f"{event['version']}. Read the service's log: `phaseflow logs serving`."
            )
        return self._ask(event["url"], event["version"])

    def _ask(self, url: str, version: str) -> dict[str, Any]:
        project = registry.get(self.project)
        answer = httpx.post(f"{url}/predict", json=dict(project.example), timeout=30, trust_env=False)
        if answer.status_code != 200:
            raise AirflowException(f"{url}/predict answers {answer.status_code}: {answer.text[:500]}")
        said: dict[str, Any] = answer.json()
        predictions = said.get("predictions")
        # Of a class its label, of a number its value, else what the target's kind is answered with.
        names = {answers.outputs(project.schema.target, classes)[0] for classes in ((), ("a class",))}
        if not isinstance(predictions, list) or len(predictions) != 1 or not names & set(predictions[0]):
            raise AirflowException(f"{url}/predict answers no prediction: {answer.text[:500]}")
        self.log.info("Version %s of %s answers %s", version, self.project, predictions[0])
        return {"version": version, "prediction": predictions[0]}


class ServedTrigger(BaseTrigger):
    """Waits until `<url>/model` shows the version, up to `deadline` in unix seconds."""

    def __init__(self, *, url: str, version: str, deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's triggers have no types
        self.url = url
        self.version = version
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        arguments = {"url": self.url, "version": self.version, "deadline": self.deadline}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event: what is served when it is the version, or at the deadline."""
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            while True:
                try:
                    served = _version(await client.get(f"{self.url}/model"))
                except httpx.HTTPError as error:
                    served = f"nothing ({error})"
                if served == self.version or time.time() > self.deadline:
                    event = {"url": self.url, "version": self.version, "served": served}
                    yield TriggerEvent(event)  # type: ignore[no-untyped-call]  # as above
                    return
                await asyncio.sleep(POLL_SECONDS)


def _served(url: str) -> str:
    """The version that is served, else what is answered instead."""
    try:
        return _version(httpx.get(f"{url}/model", timeout=10, trust_env=False))
    except httpx.HTTPError as error:
        return f"nothing ({error})"


def _version(answer: httpx.Response) -> str:
    if answer.is_error:
        return f"{answer.status_code} {answer.text[:200]}"
    return str(answer.json()["version"])
