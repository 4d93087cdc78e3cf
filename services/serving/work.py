"""Work of a request that takes its time: in a thread, within a deadline, and no longer than its client waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from services.serving.requests import GoneError, RefusedError

DEADLINE_SECONDS: Final = 30.0
"""Between the last byte of a request's body and its response."""
IMAGE_READERS: Final = ThreadPoolExecutor(2, thread_name_prefix="image-reader")
"""Threads that read images: a large one takes a while, which no other request should wait for, and much memory, for few at once."""
WORKERS: Final = ThreadPoolExecutor(4, thread_name_prefix="worker")
"""Threads for every other large request; the background loops have threads of their own."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Result = TypeVar("Result")


class Work:
    """What runs in a thread for a client that may go away."""

    __slots__ = ("abandoned",)

    def __init__(self) -> None:
        self.abandoned = False
        """Nobody waits for the result any more."""

    def check(self) -> None:
        """Between two parts of the work; raises GoneError where the rest is for nobody."""
        if self.abandoned:
            raise GoneError


async def in_thread(
    executor: ThreadPoolExecutor,
    job: Callable[[Work], Result],
    receive: Receive | None = None,
    seconds: float = DEADLINE_SECONDS,
) -> Result:
    """What `job` gives; `receive` tells when the client is gone, once its body has been read.

    Raises GoneError when it is, RefusedError with 503 at the deadline, and what the job raises.
    """
    work = Work()
    running: asyncio.Future[Result] = asyncio.get_running_loop().run_in_executor(executor, job, work)
    leaving = None if receive is None else asyncio.ensure_future(_gone(receive))
    try:
        awaited: list[asyncio.Future[Any]] = [running] if leaving is None else [running, leaving]
        await asyncio.wait(awaited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        if leaving is not None and leaving.done():
            raise GoneError
        raise RefusedError(
            f"The request took longer than {seconds:g} s", "Send fewer rows, or smaller ones.", status=503
        )
    finally:
        work.abandoned = True
        if not running.done():
            running.cancel()  # one that has not begun never does
        if leaving is not None:
            leaving.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
