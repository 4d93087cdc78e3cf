"""Verifies with a real request that the champion is served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import httpx
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent

from phaseflow import discovery, prediction_types
from phaseflow.settings import from_environment

WAIT_SECONDS: Final = 120.0
"""Maximum time for the service to load a champion."""
POLL_SECONDS: Final = 1.0


class VerifyOperator(BaseOperator):
    """Waits until the service has loaded the champion, without occupying a worker, then requests a prediction.

    The champion is the version that was just promoted, otherwise the one that the gate compared with. Raises AirflowFailException if
    there is none, AirflowException if the service has another version after two minutes or its response is wrong.
    """

    def __init__(self, *, project: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.project = project

    def execute(self, context: Context) -> Any:
        """Request a prediction if the champion is already served, otherwise wait in the triggerer."""
        promoted = context["ti"].xcom_pull(task_ids="promote")
        verdict = context["ti"].xcom_pull(task_ids="train")
        version = promoted["version"] if promoted else verdict["champion"]
        if version is None:
            raise AirflowFailException(
                f"{self.project} has no champion: its first version {verdict['version']} was not promoted, so nothing is "
                "served. Read the reason in the log of promote, then improve the model or promote it with "
                f"`phaseflow promote {self.project}`."
            )
        url = f"{from_environment().serving(self.project)}/{self.project}"
        trigger = ServedTrigger(url=url, version=str(version), deadline=time.time() + WAIT_SECONDS)
        served_version = _served(url)
        if served_version != str(version):
            self.log.info("Waiting for version %s; %s serves %s", version, url, served_version)
            raise TaskDeferred(trigger=trigger, method_name="finish")
        return self._ask(url, str(version))

    def finish(self, context: Context, event: Mapping[str, str]) -> Any:  # noqa: ARG002  # Airflow's signature
        """Request a prediction, now that the service has the champion; raises AirflowException if it does not."""
        if event["served"] != event["version"]:
            raise AirflowException(
                f"After {WAIT_SECONDS:.0f} s, {event['url']}/model still serves {event['served']}, not version "
                f"{event['version']}. Read the service's log with `phaseflow logs serving`."
            )
        return self._ask(event["url"], event["version"])

    def _ask(self, url: str, version: str) -> dict[str, Any]:
        project = discovery.get(self.project)
        response = httpx.post(f"{url}/predict", json=dict(project.example), timeout=30, trust_env=False)
        if response.status_code != 200:
            raise AirflowException(f"{url}/predict responded {response.status_code}: {response.text[:500]}")
        body: dict[str, Any] = response.json()
        predictions = body.get("predictions")
        # The first output: a class has its label, a number its value, other kinds have their own output.
        names = {prediction_types.output_names(project.schema.target, classes)[0] for classes in ((), ("a class",))}
        if not isinstance(predictions, list) or len(predictions) != 1 or not names & set(predictions[0]):
            raise AirflowException(f"{url}/predict returned no prediction: {response.text[:500]}")
        self.log.info("Version %s of %s predicts %s", version, self.project, predictions[0])
        return {"version": version, "prediction": predictions[0]}


class ServedTrigger(BaseTrigger):
    """Waits until `<url>/model` returns the version, up to `deadline` in Unix seconds."""

    def __init__(self, *, url: str, version: str, deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's triggers have no types
        self.url = url
        self.version = version
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        arguments = {"url": self.url, "version": self.version, "deadline": self.deadline}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event with the served version, once it is the expected one or at the deadline."""
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
    """The version that is served, otherwise a description of the response."""
    try:
        return _version(httpx.get(f"{url}/model", timeout=10, trust_env=False))
    except httpx.HTTPError as error:
        return f"nothing ({error})"


def _version(response: httpx.Response) -> str:
    if response.is_error:
        return f"{response.status_code} {response.text[:200]}"
    return str(response.json()["version"])
