"""Alertmanager's webhook: a hundred alerts at once make one retraining, and every decision is written down."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import httpx
import msgspec

from phaseflow import events, registry
from phaseflow.contract import Project
from phaseflow.errors import PhaseflowError
from phaseflow.log import logger
from phaseflow.settings import Settings
from phaseflow.store import Store, write_atomic
from services.monitor import alerts
from services.monitor.airflow import Airflow
from services.monitor.decide import Day, Memory, Request, decide
from services.monitor.observed import Observed

Text = Annotated[str, msgspec.Meta(max_length=2000)]
Words = Annotated[dict[Text, Text], msgspec.Meta(max_length=100)]
NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
ALL_PROJECTS: Final = "all-projects"
"""Name of the file with the day's retrainings of all; no project bears it, for a hyphen is not allowed in theirs."""
Remembered = TypeVar("Remembered", Memory, Day)


class Alert(msgspec.Struct):
    """One of Alertmanager's (https://prometheus.io/docs/alerting/latest/configuration/#webhook_config).

    Only its state and labels are read: what it says of itself is asked of Prometheus.
    """

    status: str
    labels: Words


class Payload(msgspec.Struct):
    """What Alertmanager posts; unknown fields are left out."""

    alerts: Annotated[list[Alert], msgspec.Meta(max_length=1000)]


decoder = msgspec.json.Decoder(Payload)


class Hook:
    """Confirms, decides, remembers, triggers."""

    def __init__(self, settings: Settings, airflow: Airflow, observed: Observed) -> None:
        self._settings = settings
        self._store = Store(settings.store)
        self._airflow = airflow
        self._observed = observed
        self._prometheus = alerts.Prometheus(settings)
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def _path(self, name: str) -> Path:
        return self._settings.home / "monitor" / f"{name}.json"

    def memory(self, name: str) -> Memory:
        """What was done before for a project; a file that can't be read counts as nothing, so that it can't stop retraining."""
        return self._read(name, Memory)

    def _read(self, name: str, kind: type[Remembered]) -> Remembered:
        path = self._path(name)
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return kind()
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            logger.warning("%s can't be read, so it counts as empty: %s", path, error)
            return kind()

    async def resume(self) -> None:
        """Send what was decided and maybe never reached Airflow: after a crash, or while Airflow was away."""
        for name in registry.names():
            async with self._locks[name]:
                memory = self.memory(name)
                if memory.pending:
                    try:
                        await self._send(name, memory)
                    except (httpx.HTTPError, PhaseflowError) as error:
                        logger.warning("%s waits: %r", memory.pending, error)

    async def receive(self, payload: Payload) -> dict[str, list[str]]:
        """Outcomes by project, in the order of the alerts.

        Raises httpx.HTTPError or PlatformError when Airflow or Prometheus is away: Alertmanager sends the alerts again.
        """
        names, outcomes = set(registry.names()), defaultdict(list)

        def asks(alert: Alert) -> bool:
            return alert.labels.get("project") in names and alert.labels.get("action") == "retrain"

        states = {alert.status for alert in payload.alerts if asks(alert)}
        firing = await self._prometheus.firing() if "firing" in states else []
        rules = await self._prometheus.rules() if states - {"firing"} else []
        for alert in payload.alerts:
            name = alert.labels.get("project", "")
            project = _project(name) if asks(alert) else None
            if project is None:
                outcomes[name].append("ignored")
                continue
            outcomes[name].append(await self._one(project, alert, firing, rules))
        return dict(outcomes)

    async def _one(
        self, project: Project, alert: Alert, firing: list[alerts.Alert], rules: list[Mapping[str, str]]
    ) -> str:
        if alert.status != "firing":
            rule = next((rule for rule in rules if alerts.shares_identity(alert.labels, rule)), None)
            if rule is not None:
                self._record(project, "alert", rule, {"status": "resolved"})
                return "resolved"
        elif (confirmed := alerts.confirmed(alert.labels, firing)) is not None:
            async with self._locks[project.name]:
                return await self._firing(project, confirmed)
        logger.warning("an alert for %s is not Prometheus's, so nothing is done: %.300s", project.name, alert.labels)
        self._observed.retrain(project.name, "unconfirmed")
        return "unconfirmed"

    async def _firing(self, project: Project, alert: alerts.Alert) -> str:
        memory = self.memory(project.name)
        if memory.pending:  # decided, and Airflow was away
            await self._send(project.name, memory)
        running = await self._airflow.active(project.name)
        # From here to what is remembered nothing is awaited: no other project's alert is decided on the same count of all.
        cooldown = self._settings.drift_cooldown_seconds
        decision = decide(
            project,
            self.memory(project.name),
            self._read(ALL_PROJECTS, Day),
            _request(alert),
            time.time(),
            cooldown=project.drift.cooldown_seconds if cooldown is None else cooldown,
            cap=self._settings.retrainings_per_day,
            running=running,
        )
        if decision.outcome == "triggered":
            # All projects' count is first: a crash in between counts one too many, never one too few.
            self._remember(ALL_PROJECTS, decision.total)
            self._remember(project.name, decision.memory)
            try:
                await self._send(project.name, decision.memory)
            except (httpx.HTTPError, PhaseflowError):
                self._observed.retrain(project.name, "failed")
                raise
        self._observed.retrain(project.name, decision.outcome)
        kind = "retraining" if decision.outcome == "triggered" else "alert"
        decided = {"outcome": decision.outcome, "why": decision.why, "run": decision.memory.pending}
        self._record(project, kind, alert.labels, {"status": "firing", **decided})
        return decision.outcome

    def _record(self, project: Project, kind: str, labels: Mapping[str, str], data: Mapping[str, Any]) -> None:
        """The labels have a place of their own, where they can't override what was decided."""
        own = {**data, "alert": labels.get("alertname", ""), "labels": dict(labels)}
        events.record(self._store, project, kind, own, source="monitor")

    async def _send(self, name: str, memory: Memory) -> None:
        await self._airflow.trigger(name, memory.pending, memory.reason)
        self._remember(name, replace(memory, pending=""))

    def _remember(self, name: str, memory: Memory | Day) -> None:
        write_atomic(self._path(name), json.dumps(memory.to_dict()).encode())


def _project(name: str) -> Project | None:
    """The project; None, with a message, where its declaration can't be read."""
    try:
        return registry.get(name)
    except Exception as error:  # project.py is anyone's code
        logger.warning("projects/%s/project.py can't be read: %s: %s", name, type(error).__name__, error)
        return None


def _request(alert: alerts.Alert) -> Request:
    """What the alert asks for; its name becomes a part of a run's id."""
    name = "".join(letter for letter in alert.labels["alertname"] if letter in NAME)[:80]
    return Request(
        name=name or "alert",
        starts_at=alert.active_at,
        summary=alert.annotations.get("description") or alert.annotations.get("summary") or "an alert",
        basis=alert.labels.get("basis", ""),
    )
