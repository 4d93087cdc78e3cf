"""Alertmanager's webhook: a hundred alerts at once make one retraining, and every decision is written down."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import httpx
import msgspec

from phaseflow import events, registry
from phaseflow.contract import Project
from phaseflow.errors import PhaseflowError
from phaseflow.settings import Settings
from phaseflow.store import Store, write_atomic
from services.monitor.airflow import Airflow
from services.monitor.decide import Memory, decide
from services.monitor.observed import Observed

Text = Annotated[str, msgspec.Meta(max_length=2000)]
Words = Annotated[dict[Text, Text], msgspec.Meta(max_length=100)]
NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


class Alert(msgspec.Struct):
    """One of Alertmanager's (https://prometheus.io/docs/alerting/latest/configuration/#webhook_config)."""

    status: str
    labels: Words
    annotations: Words = {}  # msgspec copies it
    starts_at: Text = msgspec.field(name="startsAt", default="")


class Payload(msgspec.Struct):
    """What Alertmanager posts; unknown fields are left out."""

    alerts: Annotated[list[Alert], msgspec.Meta(max_length=1000)]


decoder = msgspec.json.Decoder(Payload)


class Hook:
    """Decides, remembers, triggers."""

    def __init__(self, settings: Settings, airflow: Airflow, observed: Observed) -> None:
        self._settings = settings
        self._store = Store(settings.store)
        self._airflow = airflow
        self._observed = observed
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def _path(self, project: Project) -> Path:
        return self._settings.home / "monitor" / f"{project.name}.json"

    def memory(self, project: Project) -> Memory:
        """What was done before; a file that can't be read counts as nothing, so that it can't stop retraining."""
        try:
            return Memory(**json.loads(self._path(project).read_bytes()))
        except FileNotFoundError:
            return Memory()
        except (ValueError, TypeError) as error:
            print(f"warning: {self._path(project)} is not readable: {error}", file=sys.stderr)
            return Memory()

    async def resume(self) -> None:
        """Send what was decided before a crash and maybe never reached Airflow."""
        for project in registry.all_projects():
            memory = self.memory(project)
            if memory.pending:
                try:
                    await self._send(project, memory)
                except (httpx.HTTPError, PhaseflowError) as error:
                    print(f"warning: {memory.pending} waits: {error!r}", file=sys.stderr)

    async def receive(self, payload: Payload) -> dict[str, list[str]]:
        """Outcomes by project, in the order of the alerts.

        Raises httpx.HTTPError or PlatformError when Airflow is away: Alertmanager sends the alert again.
        """
        known, outcomes = set(registry.names()), defaultdict(list)
        for alert in payload.alerts:
            name = alert.labels.get("project", "")
            if name not in known or alert.labels.get("action") != "retrain":
                outcomes[name].append("ignored")
                continue
            project = registry.get(name)
            if alert.status != "firing":
                events.record(self._store, project, "alert", {"status": "resolved", **alert.labels}, source="monitor")
                outcomes[name].append("resolved")
                continue
            async with self._locks[name]:
                outcomes[name].append(await self._firing(project, alert))
        return dict(outcomes)

    async def _firing(self, project: Project, alert: Alert) -> str:
        memory = self.memory(project)
        if memory.pending:  # decided, and Airflow was away
            await self._send(project, memory)
            memory = self.memory(project)
        told = {
            "name": "".join(letter for letter in alert.labels.get("alertname", "alert") if letter in NAME)[:80]
            or "alert",
            "starts_at": alert.starts_at,
            "summary": alert.annotations.get("description") or alert.annotations.get("summary") or "an alert",
        }
        cooldown = self._settings.drift_cooldown_seconds
        decision = decide(
            project,
            memory,
            told,
            time.time(),
            project.drift.cooldown_seconds if cooldown is None else cooldown,
            running=await self._airflow.active(project.name),
        )
        kind = "retraining" if decision.outcome == "triggered" else "alert"
        if decision.outcome == "triggered":
            self._remember(project, decision.memory)
            try:
                await self._send(project, decision.memory)
            except (httpx.HTTPError, PhaseflowError):
                self._observed.retrain(project.name, "failed")
                raise
        self._observed.retrain(project.name, decision.outcome)
        data = {
            "status": "firing",
            "outcome": decision.outcome,
            "why": decision.why,
            "run": decision.memory.pending,
            **alert.labels,
        }
        events.record(self._store, project, kind, data, source="monitor")
        return decision.outcome

    async def _send(self, project: Project, memory: Memory) -> None:
        await self._airflow.trigger(project.name, memory.pending, memory.reason)
        self._remember(project, replace(memory, pending=""))

    def _remember(self, project: Project, memory: Memory) -> None:
        write_atomic(self._path(project), json.dumps(memory.to_dict()).encode())
