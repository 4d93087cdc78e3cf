"""Alertmanager's webhook: a hundred simultaneous alerts start one retraining, and every decision is recorded."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec

from phaseflow import discovery, events
from phaseflow.clients import airflow, prometheus
from phaseflow.clients.rest import AsyncClient
from phaseflow.contract import Project
from phaseflow.errors import PhaseflowError
from phaseflow.log import logger
from phaseflow.settings import Settings
from phaseflow.store import Store, write_atomic
from services.monitor import alerts
from services.monitor.decide import Day, Memory, Request, decide
from services.monitor.metrics import MonitorMetrics

Text = Annotated[str, msgspec.Meta(max_length=2000)]
Words = Annotated[dict[Text, Text], msgspec.Meta(max_length=100)]
NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
ALL_PROJECTS: Final = "all-projects"
"""Name of the file that counts the day's retrainings of all projects; the hyphen rules out a project of that name."""
State = TypeVar("State", Memory, Day)


class Alert(msgspec.Struct):
    """An alert of Alertmanager (https://prometheus.io/docs/alerting/latest/configuration/#webhook_config).

    Only its status and labels are read: everything else comes from Prometheus.
    """

    status: str
    labels: Words


class Payload(msgspec.Struct):
    """The request body that Alertmanager posts; unknown fields are ignored."""

    alerts: Annotated[list[Alert], msgspec.Meta(max_length=1000)]


decoder = msgspec.json.Decoder(Payload)


class Hook:
    """Confirms alerts with Prometheus, decides on them, stores the decision and triggers the DAG."""

    def __init__(self, settings: Settings, airflow_client: AsyncClient, metrics: MonitorMetrics) -> None:
        self._settings = settings
        self._store = Store(settings.store)
        self._airflow = airflow_client
        self._metrics = metrics
        self._prometheus = AsyncClient(prometheus.server(settings), timeout=10)
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def _path(self, name: str) -> Path:
        return self._settings.home / "monitor" / f"{name}.json"

    def memory(self, name: str) -> Memory:
        """The stored history of a project; a file that can't be read counts as empty, so that it can't block retraining."""
        return self._read(name, Memory)

    def _read(self, name: str, kind: type[State]) -> State:
        path = self._path(name)
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return kind()
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            logger.warning("%s can't be read, so it counts as empty: %s", path, error)
            return kind()

    async def resume(self) -> None:
        """Send runs that were decided on but may not have reached Airflow, because of a crash or because it was unavailable."""
        for name in discovery.names():
            async with self._locks[name]:
                memory = self.memory(name)
                if memory.pending:
                    try:
                        await self._send(name, memory)
                    except PhaseflowError as error:
                        logger.warning("the run %s is still pending: %r", memory.pending, error)

    async def receive(self, payload: Payload) -> dict[str, list[str]]:
        """Handle the alerts; returns the outcomes by project, in the order of the alerts.

        Raises PlatformError if Airflow or Prometheus is unavailable: Alertmanager then sends the alerts again.
        """
        names, outcomes = set(discovery.names()), defaultdict(list)

        def wants_retraining(alert: Alert) -> bool:
            return alert.labels.get("project") in names and alert.labels.get("action") == "retrain"

        states = {alert.status for alert in payload.alerts if wants_retraining(alert)}
        firing = await self._prometheus.send(alerts.firing()) if "firing" in states else []
        rules = await self._prometheus.send(alerts.rules()) if states - {"firing"} else []
        for alert in payload.alerts:
            name = alert.labels.get("project", "")
            project = _project(name) if wants_retraining(alert) else None
            if project is None:
                outcomes[name].append("ignored")
                continue
            outcomes[name].append(await self._outcome(project, alert, firing, rules))
        return dict(outcomes)

    async def _outcome(
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
        logger.warning(
            "Prometheus does not confirm an alert for %s, so it is ignored: %.300s", project.name, alert.labels
        )
        self._metrics.retrain(project.name, "unconfirmed")
        return "unconfirmed"

    async def _firing(self, project: Project, alert: alerts.Alert) -> str:
        memory = self.memory(project.name)
        if memory.pending:  # decided on while Airflow was unavailable
            await self._send(project.name, memory)
        running = await self._airflow.send(airflow.is_active(project.name))
        # Nothing is awaited between here and `_remember`: no two projects' alerts are decided on the same total count.
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
            # The total count is stored first: a crash in between counts one retraining too many, never one too few.
            self._remember(ALL_PROJECTS, decision.total)
            self._remember(project.name, decision.memory)
            try:
                await self._send(project.name, decision.memory)
            except PhaseflowError:
                self._metrics.retrain(project.name, "failed")
                raise
        self._metrics.retrain(project.name, decision.outcome)
        kind = "retraining" if decision.outcome == "triggered" else "alert"
        result = {"outcome": decision.outcome, "why": decision.why, "run": decision.memory.pending}
        self._record(project, kind, alert.labels, {"status": "firing", **result})
        return decision.outcome

    def _record(self, project: Project, kind: str, labels: Mapping[str, str], data: Mapping[str, Any]) -> None:
        """Record an event; the alert's labels are nested, so that they can't override the decision's fields."""
        event = {**data, "alert": labels.get("alertname", ""), "labels": dict(labels)}
        events.record(self._store, project, kind, event, source="monitor")

    async def _send(self, name: str, memory: Memory) -> None:
        await self._airflow.send(airflow.trigger(name, memory.reason, memory.pending))
        self._remember(name, replace(memory, pending=""))

    def _remember(self, name: str, memory: Memory | Day) -> None:
        write_atomic(self._path(name), json.dumps(memory.to_dict()).encode())


def _project(name: str) -> Project | None:
    """The project, or None (with a log message) if its declaration can't be read."""
    try:
        return discovery.get(name)
    except Exception as error:  # project.py is anyone's code
        logger.warning("projects/%s/project.py can't be read: %s: %s", name, type(error).__name__, error)
        return None


def _request(alert: alerts.Alert) -> Request:
    """The alert as a request; its name is reduced to characters that a run id may contain."""
    name = "".join(letter for letter in alert.labels["alertname"] if letter in NAME)[:80]
    return Request(
        name=name or "alert",
        starts_at=alert.active_at,
        summary=alert.annotations.get("description") or alert.annotations.get("summary") or "an alert",
        basis=alert.labels.get("basis", ""),
    )
