"""Background loops of a service that can't fail silently.

The exception of a task that nobody awaits is lost: the shipping of the log or the polling of the registry would stop,
and the service would look healthy. A loop of this module logs any exception and retries with exponential backoff. It
records the time of its last successful iteration and is overdue if that is too long ago; the service then reports
itself as unhealthy and not ready. A watchdog thread ends the process if a loop has not succeeded for so long that only
a new process can help, even if the event loop itself is blocked.
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
"""Maximum pause between two attempts of a failing loop."""
EXIT_STATUS: Final = 70
"""EX_SOFTWARE of sysexits.h. The supervisor or the kubelet restarts the process."""
METRIC: Final = "phaseflow_loop_last_iteration_timestamp_seconds"
"""Gauge with the label `loop`: the time of the last successful iteration, in seconds since the epoch."""


@dataclass(slots=True, kw_only=True)
class Loop:
    """A loop. `beat` and `last` are its last success on the monotonic clock and on the wall clock (for metrics)."""

    name: str
    max_age: float
    """Seconds without a successful iteration after which the loop is overdue."""
    limit: float
    """Seconds without a successful iteration after which the process ends."""
    beat: float
    last: float = field(default_factory=time.time)
    failures: int = 0
    """Number of consecutive failures."""


class Loops:
    """The loops of a process."""

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
        """Call `iterate` repeatedly, `seconds` after the end of each call. Requires a running event loop.

        The default of `limit` is ten times `max_age`, at least five minutes.
        """
        limit = max(10 * max_age, 300.0) if limit is None else limit
        loop = Loop(name=name, max_age=max_age, limit=limit, beat=self._clock())
        self._loops[name] = loop
        task = asyncio.create_task(self._run(loop, iterate, seconds), name=name)
        task.add_done_callback(self._on_end)
        self._tasks.append(task)
        if self._watchdog is None:
            self._watchdog = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._watchdog.start()

    def beat(self, name: str) -> None:
        """Record progress of a loop. A long iteration calls it after each part, from any thread."""
        loop = self._loops.get(name)
        if loop is not None:
            loop.beat, loop.last = self._clock(), time.time()

    def overdue(self) -> list[str]:
        """Names of the loops whose last successful iteration is too long ago."""
        now = self._clock()
        return [loop.name for loop in self._loops.values() if now - loop.beat > loop.max_age]

    def last_iterations(self) -> Mapping[str, float]:
        """Time of the last successful iteration of each loop, in seconds since the epoch."""
        return {loop.name: loop.last for loop in self._loops.values()}

    async def stop(self) -> None:
        """Stop all loops. Cancellations are repeated, since `asyncio.wait_for` of Python 3.11 may swallow one."""
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
            except Exception as error:  # the next iteration may succeed
                loop.failures += 1
                pause = min(MAX_PAUSE_SECONDS, max(seconds, 0.1) * 2 ** min(loop.failures, 10))
                logger.warning(
                    "the loop %s failed (%d in a row), next attempt in %.1f s: %s: %s",
                    *(loop.name, loop.failures, pause, type(error).__name__, error),
                    exc_info=error if loop.failures == 1 else None,
                )
            else:
                loop.failures, pause = 0, seconds
                self.beat(loop.name)
            await asyncio.sleep(pause)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """End the process if a task ends without being cancelled, since nothing would restart the task."""
        if not task.cancelled():
            logger.critical("the loop %s ended, so the process ends", task.get_name())
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
