"""Background loops of a service that can't die silently.

A task that nobody awaits keeps its exception to itself: shipping of the log or following of the registry would stop, and the service
would look healthy. A loop here survives any exception with a message and a growing pause, says when its last iteration succeeded, and is
overdue when that is too long ago; the service's health and readiness are false then. A watchdog thread ends the process when a loop has
not succeeded for so long that only a new process can help, also when the event loop itself is stuck.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from phaseflow.log import logger

MAX_PAUSE_SECONDS: Final = 30.0
"""Between two tries of a loop that fails."""
EXIT_STATUS: Final = 70
"""EX_SOFTWARE of sysexits.h: the supervisor, or the kubelet, starts the process again."""
METRIC: Final = "phaseflow_loop_last_iteration_timestamp_seconds"
"""Gauge with the label `loop`: when its last iteration succeeded, in seconds since the epoch."""


@dataclass(slots=True, kw_only=True)
class Loop:
    """One loop; `beat` is of a monotonic clock; `last`, for metrics, of the wall clock."""

    name: str
    max_age: float
    """Seconds without a successful iteration after which it is overdue."""
    limit: float
    """Seconds without one after which the process ends."""
    beat: float
    last: float = field(default_factory=time.time)
    failures: int = 0
    """In a row."""


class Loops:
    """The loops of one process."""

    def __init__(
        self,
        end: Callable[[], None] = lambda: os._exit(EXIT_STATUS),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loops: dict[str, Loop] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._end, self._clock = end, clock
        self._stopped = threading.Event()
        self._watchdog: threading.Thread | None = None

    def start(
        self,
        name: str,
        iterate: Callable[[], Awaitable[None]],
        *,
        seconds: float,
        max_age: float,
        limit: float | None = None,
    ) -> None:
        """Call `iterate` for ever, `seconds` after each end; from a running event loop.

        `limit` is ten times `max_age`, at least five minutes, where none is given.
        """
        limit = max(10 * max_age, 300.0) if limit is None else limit
        loop = Loop(name=name, max_age=max_age, limit=limit, beat=self._clock())
        self._loops[name] = loop
        task = asyncio.create_task(self._run(loop, iterate, seconds), name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        if self._watchdog is None:
            self._watchdog = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._watchdog.start()

    def beat(self, name: str) -> None:
        """Say that the loop is at work: an iteration over a long backlog calls it after each part. Any thread."""
        loop = self._loops.get(name)
        if loop is not None:
            loop.beat, loop.last = self._clock(), time.time()

    def overdue(self) -> list[str]:
        """Names of loops whose last successful iteration is too long ago."""
        now = self._clock()
        return [loop.name for loop in self._loops.values() if now - loop.beat > loop.max_age]

    def last_iterations(self) -> Mapping[str, float]:
        """When each loop's last iteration succeeded, in seconds since the epoch."""
        return {loop.name: loop.last for loop in self._loops.values()}

    async def stop(self) -> None:
        """End all of them. An iteration may lose a cancellation, as `asyncio.wait_for` of Python 3.11 does: it is repeated."""
        self._stopped.set()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            self._tasks = list((await asyncio.wait(self._tasks, timeout=0.5))[1])
        self._loops.clear()

    async def _run(self, loop: Loop, iterate: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            try:
                await iterate()
            except Exception as error:  # whatever it is, the next iteration may succeed
                loop.failures += 1
                pause = min(MAX_PAUSE_SECONDS, max(seconds, 0.1) * 2 ** min(loop.failures, 10))
                logger.warning(
                    "the loop %s failed (%d in a row), next try in %.1f s: %s: %s",
                    *(loop.name, loop.failures, pause, type(error).__name__, error),
                    exc_info=error if loop.failures == 1 else None,
                )
            else:
                loop.failures, pause = 0, seconds
                self.beat(loop.name)
            await asyncio.sleep(pause)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that ends although nobody cancelled it takes the process with it: nothing would start it again."""
        if not task.cancelled():
            logger.critical("the loop %s ended, so the process does", task.get_name())
            self._end()

    def _watch(self) -> None:
        while not self._stopped.wait(1.0):
            now = self._clock()
            for loop in list(self._loops.values()):
                if now - loop.beat > loop.limit:
                    logger.critical(
                        "the loop %s has not succeeded for %.0f s, so the process ends", loop.name, now - loop.beat
                    )
                    self._end()
                    return
