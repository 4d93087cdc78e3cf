"""The state of the service (models, log, metrics) and the operations behind its routes."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from phaseflow import discovery, kinds, logs
from phaseflow.contract import Column, Project
from phaseflow.errors import DataError, suggestion
from phaseflow.generation import LateError
from phaseflow.kinds.kind import serialize
from phaseflow.log import logger
from phaseflow.loops import Loops
from phaseflow.predictor import Output, Row
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from services.serving import catalog, replay, requests
from services.serving import model as models
from services.serving.manager import Manager
from services.serving.metrics import MAX_PENDING, PendingPrediction, ServiceMetrics
from services.serving.model import Model
from services.serving.requests import MAX_QUOTED, Reader, RefusedError
from services.serving.spool import Log

LOOP_SECONDS: Final = 60.0
"""A loop without success for this time, and for ten intervals, makes the service neither ready nor healthy."""
LONG_LABEL: Final = 1000
"""In characters."""
FEEDBACK: Final = 'Send {"labels": [{"id": "..", "label": ..}]} with labels of the target\'s kind.'
GROUP: Final = "Send the SHA-256 of the group's name, 64 lower-case hexadecimal digits, or leave the field out."


@dataclass(slots=True)  # not frozen: creating a frozen one, once per request, takes three times as long
class PredictionBatch:
    """Rows [N] of a request that are predicted and logged, but not counted yet."""

    model: Model
    request_id: str
    ids: list[str]
    rows: list[Row]
    serialized: list[Any]
    """[N]: the predictions in the format of the log."""
    output: Output
    descriptors: models.DescriptorValues


class Service:
    """The models, log, metrics and background loops that the routes share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.store)
        self.loops = Loops()
        self.log = Log(settings.home / "serving" / "spool", self.store)
        self.manager = Manager(settings, self.store, lambda: self.loops.beat("follow"))
        self.metrics = ServiceMetrics(self.manager, settings, lambda: self.log.rows, self.loops.last_iterations)
        self._restoring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the cached models, and start the loops that follow MLflow and ship the log."""
        self.manager.start()
        for name, iterate, seconds in (
            ("follow", self.manager.follow, self.settings.serving_poll_seconds),
            ("ship", self._ship, self.settings.serving_ship_seconds),
        ):
            self.loops.start(name, iterate, seconds=seconds, max_age=max(LOOP_SECONDS, 10 * seconds))
        self._restoring = asyncio.create_task(self._restore())
        # Without this, the garbage collector pauses for up to half a second, as it visits all long-lived objects.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)

    async def stop(self) -> None:
        """Stop the loops, close the connections, and ship the rest of the log."""
        await self.loops.stop()
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.gather(self._restoring, return_exceptions=True)
        await self.manager.close()
        self.log.ship()

    @property
    def ready(self) -> bool:
        """Whether the champions are known and no background loop is overdue."""
        return self.manager.ready and not self.loops.overdue()

    async def _ship(self) -> None:
        await asyncio.to_thread(self.log.ship, lambda: self.loops.beat("ship"))

    async def _restore(self) -> None:
        """Ship files of earlier processes, then restore pending predictions; a failure resets only the live loss."""
        try:
            await self._ship()
            self.metrics.restore(await asyncio.to_thread(self._pending_predictions))
        except Exception as error:
            logger.warning("earlier predictions could not be restored: %s: %s", type(error).__name__, error)

    def _pending_predictions(self) -> list[tuple[str, PendingPrediction]]:
        """The newest predictions of earlier processes per project, at most `MAX_PENDING` in total."""
        projects = catalog.projects()
        limit = min(replay.MAX_ROWS, MAX_PENDING // max(len(projects), 1))
        return [pair for project in projects for pair in replay.recent(self.store, project, limit)]

    def reader(self, name: str) -> Reader:
        """The project's decoders; raises RefusedError with 404, or with 503 if the declaration is invalid."""
        names = discovery.names()
        if name not in names:
            quoted = name[:MAX_QUOTED]
            fix = suggestion(quoted, names) or f"There are: {', '.join(names)}."
            raise RefusedError(f"There is no project {quoted!r}", fix, status=404)
        try:
            return requests.get_reader(name)
        except Exception as error:  # the module of a project may raise anything
            problem = f"The declaration of {name} is wrong: {error}"
            raise RefusedError(problem, f"Correct projects/{name}/project.py.", status=503) from error

    def model(self, name: str) -> Model:
        """The project's champion; raises RefusedError with 404, or with 503 if there is none yet."""
        model = self.manager.models.get(name)
        if model is not None:
            return model
        self.reader(name)
        raise RefusedError(
            f"{name} has no champion yet", f"Train one: trigger the DAG {name}, or `phaseflow run {name}`.", status=503
        )

    def predict(self, model: Model, rows: list[Row], check: Callable[[], None] = requests.no_check) -> PredictionBatch:
        """Predict and log rows [N]; thread-safe; raises RefusedError. `check` runs before the logging and may raise."""
        begin = time.perf_counter()
        try:
            output = model.predictor.predict(rows, hurry=True)
        except LateError as error:
            raise RefusedError(str(error), "Send fewer rows, or shorter texts.", status=503) from error
        if output.first_non_finite is not None:
            raise RefusedError(
                f"The model's prediction for row {output.first_non_finite} is not finite",
                "Send values closer to the training data.",
            )
        prediction_type, serialized = model.predictor.prediction, output.predictions
        if prediction_type.serialized:
            serialized = [serialize(value, prediction_type) for value in serialized]
        descriptors = models.describe(model, rows, output.predictions)
        now, latency = time.time_ns() // 1000, (time.perf_counter() - begin) * 1000
        request_id = logs.new_id(now, os.urandom(16))
        ids = [f"{request_id}-{number}" for number in range(len(rows))]
        lines = zip(ids, rows, serialized, output.scores, strict=True)
        check()  # a prediction that no client waits for is not logged
        self._write(
            model.project,
            "predictions",
            [(i, now, model.version, *row, prediction, score, latency) for i, row, prediction, score in lines],
        )
        return PredictionBatch(model, request_id, ids, rows, serialized, output, descriptors)

    def complete(self, batch: PredictionBatch) -> dict[str, Any]:
        """Count the rows, and return the response body. Call it on the event loop only."""
        models.count(batch.model, batch.rows, batch.output.predictions, batch.descriptors)
        fields = batch.model.predictor.fields(batch.output)
        self.metrics.record_predictions(batch.model, batch.ids, batch.rows, batch.serialized)
        return {
            "request_id": batch.request_id,
            "project": batch.model.project.name,
            "version": batch.model.version,
            "predictions": [{"id": i} | item for i, item in zip(batch.ids, fields, strict=True)],
        }

    async def feedback(self, project: Project, labels: list[Any], client: str) -> dict[str, int]:
        """Log the labels that `client` sent, and count their loss; raises RefusedError."""
        target = project.schema.target
        if target is None:
            raise RefusedError(f"{project.name} has no target, so it accepts no labels", "Send no labels for it.")
        parsed_labels = [(item.id, _parse_label(item.label, target, number)) for number, item in enumerate(labels)]
        for number, (_, label) in enumerate(parsed_labels):
            if target.closed and label not in target.allowed:
                quoted = str(label)[:MAX_QUOTED]
                raise RefusedError(
                    f"labels[{number}].label is {quoted!r}; allowed: {', '.join(target.allowed)}",
                    suggestion(quoted, target.allowed) or "Send one of them.",
                    field="label",
                )
        for number, item in enumerate(labels):
            if not requests.GROUP.fullmatch(item.group):
                raise RefusedError(f"labels[{number}].group is {item.group[:MAX_QUOTED]!r}", GROUP, field="group")
        now = time.time_ns() // 1000
        groups = [item.group for item in labels]
        lines = zip(parsed_labels, groups, strict=True)
        self._write(project, "feedback", [(identity, now, label, client, group) for (identity, label), group in lines])
        for identity, label in parsed_labels:
            self.metrics.record_label(project, identity, label)
            if isinstance(label, str) and len(label) > LONG_LABEL:
                await asyncio.sleep(0)  # comparing long texts is slow, so let other requests run in between
        return {"accepted": len(parsed_labels)}

    def _write(self, project: Project, kind: str, rows: list[tuple[Any, ...]]) -> None:
        try:
            self.log.append(project, kind, rows)
        except OSError as error:  # rows that can't be logged are not acknowledged
            raise RefusedError(
                f"The {kind} can't be logged: {error.strerror}",
                f"Free disk space under {self.settings.home} on the service, and send the request again.",
                status=503,
            ) from error

    def projects(self) -> list[dict[str, Any]]:
        """Every project, with the metadata of its model if it has one."""
        return [
            {"project": project.name, "title": project.title, "task": project.task}
            | (self.manager.describe(project.name) if project.name in self.manager.models else {"version": None})
            for project in catalog.projects()
        ]


def _parse_label(value: Any, target: Column, number: int) -> Any:
    """Convert a label to the format of the log; raises RefusedError."""
    prediction = kinds.of_target(target)
    if prediction.structured:
        try:
            return serialize(prediction.validate(value, target), prediction)
        except DataError as error:
            raise RefusedError(f"labels[{number}].label: {error.problem}", f"{error.fix}.", field="label") from error
    return value if isinstance(value, float) else class_name(value)


def class_name(value: object) -> str:
    """The class name in the logs and the models."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@functools.cache
def current() -> Service:
    """The service of this process."""
    return Service(from_environment())
