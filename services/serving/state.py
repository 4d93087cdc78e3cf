"""The service's one state: models, spools, metrics; and what its routes do with them."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Final

from phaseflow import registry
from phaseflow.contract import Project
from phaseflow.errors import PhaseflowError, suggestion
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from services.serving import model as models
from services.serving import requests
from services.serving.manager import Manager
from services.serving.model import Model, Row
from services.serving.observed import Observed
from services.serving.requests import RefusedError
from services.serving.spool import Predictions, Spool, Truths, now, sweep

INLINE_ROWS: Final = 64
"""Larger requests run in a thread, so that small ones don't wait for them."""


class Service:
    """What the routes share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.store)
        self.manager = Manager(settings, self.store)
        self.observed = Observed(self.manager)
        self.ship_seconds = float(os.environ.get("PHASEFLOW_SERVING_SHIP_SECONDS", "2"))
        self._spools: dict[tuple[str, str], Spool] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def spool_folder(self) -> Path:
        """Where lines wait for the store."""
        return self.settings.home / "serving" / "spool"

    async def start(self) -> None:
        """Ship what a dead process left, load the cache, follow MLflow."""
        try:
            await asyncio.to_thread(sweep, self.spool_folder, self.store)
        except (OSError, PhaseflowError) as error:
            print(f"warning: spooled rows wait: {error}", file=sys.stderr)
        self.manager.start()
        self._tasks = [asyncio.create_task(self.manager.follow()), asyncio.create_task(self._ship_for_ever())]
        # Long pauses of the collector (half a second has been seen) come from walking what never dies.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)

    async def stop(self) -> None:
        """Ship what is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.ship()

    def ship(self) -> None:
        """Send spooled rows to the store; what can't be sent waits."""
        for spool in list(self._spools.values()):
            try:
                spool.ship()
            except (OSError, PhaseflowError) as error:
                print(f"warning: spooled rows wait: {error}", file=sys.stderr)

    async def _ship_for_ever(self) -> None:
        sweeps = 0
        while True:
            await asyncio.sleep(self.ship_seconds)  # the interval of shipping
            await asyncio.to_thread(self.ship)
            sweeps += 1
            if sweeps % 15 == 0:
                try:
                    await asyncio.to_thread(sweep, self.spool_folder, self.store)
                except (OSError, PhaseflowError) as error:
                    print(f"warning: spooled rows wait: {error}", file=sys.stderr)
            self.observed.spooled = sum(spool.pending for spool in self._spools.values())

    def spool(self, project: Project, kind: str) -> Spool:
        """The project's spool of that kind."""
        found = self._spools.get((project.name, kind))
        if found is None:
            found = self._spools[project.name, kind] = Spool(self.spool_folder, self.store, project, kind)
        return found

    def model(self, name: str) -> Model:
        """The project's champion; raises RefusedError with 404 or 503."""
        found = self.manager.models.get(name)
        if found is not None:
            return found
        known = registry.names()
        if name not in known:
            fix = suggestion(name, known) or f"There are: {', '.join(known)}."
            raise RefusedError(f"There is no project {name!r:.100}", fix, status=404)
        raise RefusedError(
            f"{name} has no champion yet", f"Train one: trigger the DAG {name}, or `phaseflow run {name}`.", status=503
        )

    async def predict(self, model: Model, rows: list[Row]) -> dict[str, Any]:
        """Answer rows, log them, count them; raises RefusedError."""
        begin = time.perf_counter()
        if len(rows) > INLINE_ROWS:
            said = await asyncio.to_thread(models.answer, model, rows)
        else:
            said = models.answer(model, rows)
        return self._answered(model, rows, said, (time.perf_counter() - begin) * 1000)

    def _answered(self, model: Model, rows: list[Row], said: models.Answer, latency_ms: float) -> dict[str, Any]:
        for number, value in enumerate(said.predictions if not model.classes else said.scores):
            if value is None or not abs(value) < float("inf"):
                raise RefusedError(
                    f"The model has no finite answer for row {number}", "Send values nearer to those it was trained on."
                )
        request_id = str(uuid.uuid4())
        ids = [f"{request_id}-{number}" for number in range(len(rows))]
        entry = Predictions(
            now(), model.version, ids, [list(row) for row in rows], said.predictions, said.scores, latency_ms
        )
        try:
            self.spool(model.project, "predictions").append(entry)
        except OSError as error:
            raise RefusedError(
                f"The prediction can't be logged: {error.strerror}", "Free disk space on the service.", status=503
            ) from error
        models.count(model, rows, said.predictions)
        self.observed.remember(model, ids, rows, said.predictions)
        predictions: list[dict[str, Any]]
        if said.probabilities is None:
            predictions = [{"id": i, "value": value} for i, value in zip(ids, said.predictions, strict=True)]
        else:
            predictions = [
                {"id": i, "label": label, "probabilities": dict(zip(model.classes, shares, strict=True))}
                for i, label, shares in zip(ids, said.predictions, said.probabilities, strict=True)
            ]
        return {
            "request_id": request_id,
            "project": model.project.name,
            "version": model.version,
            "predictions": predictions,
        }

    def predict_objects(self, name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """As `predict`, of plain objects and without an event loop."""
        model = self.model(name)
        checked = requests.converted(requests.reader(name), rows)
        begin = time.perf_counter()
        return self._answered(model, checked, models.answer(model, checked), (time.perf_counter() - begin) * 1000)

    def feedback(self, project: Project, truths: list[Any]) -> int:
        """Log truths and count their loss; raises RefusedError."""
        target = project.schema.target
        for place, one in enumerate(truths):
            if target is not None and target.allowed and str(one.truth) not in target.allowed:
                raise RefusedError(
                    f"truth {place} is {one.truth!r:.100}; allowed: {', '.join(target.allowed)}",
                    suggestion(str(one.truth)[:100], target.allowed) or "Send one of them.",
                    field="truth",
                )
        try:
            self.spool(project, "feedback").append(Truths(now(), [t.id for t in truths], [t.truth for t in truths]))
        except OSError as error:
            raise RefusedError(
                f"The truth can't be logged: {error.strerror}", "Free disk space on the service.", status=503
            ) from error
        for one in truths:
            self.observed.truth(project, one.id, one.truth)
        return len(truths)

    def projects(self) -> list[dict[str, Any]]:
        """Every project, with its model where it has one."""
        return [
            {"project": project.name, "title": project.title, "task": project.task}
            | (self.manager.describe(project.name) if project.name in self.manager.models else {"version": None})
            for project in registry.all_projects()
        ]


@functools.cache
def current() -> Service:
    """The service of this process."""
    return Service(from_environment())
