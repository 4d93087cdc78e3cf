"""The service's one state: models, log, metrics; and what its routes do with them."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from phaseflow import answers, logs, registry
from phaseflow.contract import Column, Project
from phaseflow.errors import DataError, suggestion
from phaseflow.generation import LateError
from phaseflow.log import logger
from phaseflow.loops import Loops
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from services.serving import catalog, recall, requests
from services.serving import model as models
from services.serving.manager import Manager
from services.serving.model import Model
from services.serving.observed import REMEMBERED, Observed, Remembered
from services.serving.requests import SHOWN, Reader, RefusedError, Row
from services.serving.spool import Log

LOOP_SECONDS: Final = 60.0
"""A loop without a successful iteration for so long, and for ten of its intervals, makes the service unready and unhealthy."""
LONG_TRUTH: Final = 1000
"""Characters."""
REASONS: Final = 3
"""Features that an answer names where its model tells what each contributed."""
FEEDBACK: Final = 'Send {"truths": [{"id": "..", "truth": ..}]}, each truth of the target\'s kind.'
GROUP: Final = "Send the SHA-256 of the group's name, 64 lower-case hexadecimal digits, or leave the field out."


@dataclass(slots=True)  # not frozen: one is made for each request, and a frozen one takes three times as long
class Predicted:
    """A request's rows [N] that are answered and logged, and not yet counted."""

    model: Model
    request: str
    ids: list[str]
    rows: list[Row]
    kept: list[Any]
    """[N]: the predictions as the log keeps them."""
    answer: models.Answer
    figures: models.Figures


class Service:
    """What the routes share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.store)
        self.loops = Loops()
        self.log = Log(settings.home / "serving" / "spool", self.store)
        self.manager = Manager(settings, self.store, lambda: self.loops.beat("follow"))
        self.observed = Observed(self.manager, settings, lambda: self.log.rows, self.loops.last_iterations)
        self._recalling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the cache, follow MLflow, ship what a dead process left and what comes."""
        self.manager.start()
        for name, iterate, seconds in (
            ("follow", self.manager.follow, self.settings.serving_poll_seconds),
            ("ship", self._ship, self.settings.serving_ship_seconds),
        ):
            self.loops.start(name, iterate, seconds=seconds, max_age=max(LOOP_SECONDS, 10 * seconds))
        self._recalling = asyncio.create_task(self._recall())
        # Long pauses of the collector (half a second has been seen) come from walking what never dies.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)

    async def stop(self) -> None:
        """Ship what is left."""
        await self.loops.stop()
        if self._recalling is not None:
            self._recalling.cancel()
            await asyncio.gather(self._recalling, return_exceptions=True)
        await self.manager.close()
        self.log.ship()

    @property
    def ready(self) -> bool:
        """Whether the champions are known and every background loop works."""
        return self.manager.ready and not self.loops.overdue()

    async def _ship(self) -> None:
        await asyncio.to_thread(self.log.ship, lambda: self.loops.beat("ship"))

    async def _recall(self) -> None:
        """Once, after what a dead process left has been shipped; the live loss begins anew where that fails: the log is whole."""
        try:
            await self._ship()
            self.observed.recall(await asyncio.to_thread(self._recalled))
        except Exception as error:
            logger.warning("earlier answers are not remembered: %s: %s", type(error).__name__, error)

    def _recalled(self) -> list[tuple[str, Remembered]]:
        """Answers of earlier processes, of each project the newest; no more of all of them than are remembered."""
        known = catalog.projects()
        limit = min(recall.MAX_ROWS, REMEMBERED // max(len(known), 1))
        return [pair for project in known for pair in recall.recent(self.store, project, limit)]

    def reader(self, name: str) -> Reader:
        """The project's decoders; raises RefusedError with 404, or 503 where its declaration is wrong."""
        known = registry.names()
        if name not in known:
            shown = name[:SHOWN]
            fix = suggestion(shown, known) or f"There are: {', '.join(known)}."
            raise RefusedError(f"There is no project {shown!r}", fix, status=404)
        try:
            return requests.reader(name)
        except Exception as error:  # the module of a project may raise anything
            problem = f"The declaration of {name} is wrong: {error}"
            raise RefusedError(problem, f"Correct projects/{name}/project.py.", status=503) from error

    def model(self, name: str) -> Model:
        """The project's champion; raises RefusedError with 404 or 503."""
        found = self.manager.models.get(name)
        if found is not None:
            return found
        self.reader(name)
        raise RefusedError(
            f"{name} has no champion yet", f"Train one: trigger the DAG {name}, or `phaseflow run {name}`.", status=503
        )

    def predicted(self, model: Model, rows: list[Row], check: Callable[[], None] = requests.no_check) -> Predicted:
        """Answer rows [N], and log them; any thread. Raises RefusedError, and what `check` raises, which is called between the parts."""
        begin = time.perf_counter()
        try:
            answer = models.answer(model, rows, hurry=True)
        except LateError as error:
            raise RefusedError(str(error), "Send fewer rows, or shorter texts.", status=503) from error
        if answer.unfinished is not None:
            raise RefusedError(
                f"The model has no finite answer for row {answer.unfinished}",
                "Send values nearer to those it was trained on.",
            )
        target = model.project.schema.target
        kept = [answers.kept(value, target) for value in answer.predictions]
        figures = models.figures(model, rows, answer.predictions)
        now, latency = time.time_ns() // 1000, (time.perf_counter() - begin) * 1000
        request = logs.new_id(now, os.urandom(16))
        ids = [f"{request}-{number}" for number in range(len(rows))]
        lines = zip(ids, rows, kept, answer.scores, strict=True)
        check()  # what nobody waits for is not logged as answered
        self._write(
            model.project,
            "predictions",
            [(i, now, model.version, *row, prediction, score, latency) for i, row, prediction, score in lines],
        )
        return Predicted(model, request, ids, rows, kept, answer, figures)

    def counted(self, done: Predicted) -> dict[str, Any]:
        """Count the rows, and give the response; on the event loop only."""
        models.count(done.model, done.rows, done.answer.predictions, done.figures)
        self.observed.answered(done.model, done.ids, done.rows, done.kept)
        return {
            "request_id": done.request,
            "project": done.model.project.name,
            "version": done.model.version,
            "predictions": predictions(done.model, done.ids, done.answer),
        }

    async def feedback(self, project: Project, truths: list[Any], client: str) -> dict[str, int]:
        """Log truths that `client` tells, and count their loss; raises RefusedError."""
        target = project.schema.target
        if target is None:
            raise RefusedError(f"{project.name} has no target, so no truth to tell", "Send none.")
        told = [(one.id, _truth(one.truth, target, number)) for number, one in enumerate(truths)]
        for number, (_, truth) in enumerate(told):
            if target.closed and truth not in target.allowed:
                found = str(truth)[:SHOWN]
                raise RefusedError(
                    f"truths[{number}].truth is {found!r}; allowed: {', '.join(target.allowed)}",
                    suggestion(found, target.allowed) or "Send one of them.",
                    field="truth",
                )
        for number, one in enumerate(truths):
            if not requests.GROUP.fullmatch(one.group):
                raise RefusedError(f"truths[{number}].group is {one.group[:SHOWN]!r}", GROUP, field="group")
        now = time.time_ns() // 1000
        groups = [one.group for one in truths]
        lines = zip(told, groups, strict=True)
        self._write(project, "feedback", [(identity, now, truth, client, group) for (identity, truth), group in lines])
        for identity, truth in told:
            self.observed.truth(project, identity, truth)
            if isinstance(truth, str) and len(truth) > LONG_TRUTH:
                await asyncio.sleep(0)  # others are served between two texts whose words are compared
        return {"accepted": len(told)}

    def _write(self, project: Project, kind: str, rows: list[tuple[Any, ...]]) -> None:
        try:
            self.log.append(project, kind, rows)
        except OSError as error:  # what can't be logged is not answered
            raise RefusedError(
                f"The {kind} can't be logged: {error.strerror}",
                f"Free disk space under {self.settings.home} on the service, and send it again.",
                status=503,
            ) from error

    def projects(self) -> list[dict[str, Any]]:
        """Every project, with its model where it has one."""
        return [
            {"project": project.name, "title": project.title, "task": project.task}
            | (self.manager.describe(project.name) if project.name in self.manager.models else {"version": None})
            for project in catalog.projects()
        ]


def predictions(model: Model, ids: list[str], said: models.Answer) -> list[dict[str, Any]]:
    """One object a row."""
    if said.probabilities is None:
        name, *_ = answers.outputs(model.project.schema.target, model.classes)
        found = [{"id": i, name: value} for i, value in zip(ids, said.predictions, strict=True)]
    else:
        found = [
            {"id": i, "label": label, "probabilities": dict(zip(model.classes, shares, strict=True))}
            for i, label, shares in zip(ids, said.predictions, said.probabilities, strict=True)
        ]
    if said.contributions is not None:
        for one, row in zip(found, said.contributions, strict=True):
            one["why"] = why(model.project.schema.feature_names, row)
    return found


def why(names: Sequence[str], contributions: Sequence[float]) -> list[dict[str, Any]]:
    """The features that spoke most for or against an answer, the loudest first."""
    pairs = sorted(zip(names, contributions, strict=True), key=lambda pair: -abs(pair[1]))
    return [{"feature": name, "contribution": value} for name, value in pairs[:REASONS]]


def _truth(value: Any, target: Column, number: int) -> Any:
    """A truth as the log keeps it; raises RefusedError."""
    if answers.structured(target):
        try:
            return answers.kept(answers.checked(value, target), target)
        except DataError as error:
            raise RefusedError(f"truths[{number}].truth: {error.problem}", f"{error.fix}.", field="truth") from error
    return value if isinstance(value, float) else text(value)


def text(value: object) -> str:
    """A class as the logs and the models call it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@functools.cache
def current() -> Service:
    """The service of this process."""
    return Service(from_environment())
