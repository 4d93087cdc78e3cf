"""Runs slow work of a request in a thread, with a deadline, and stops it when the client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from services.serving.requests import ClientDisconnectedError, RefusedError

DEADLINE_SECONDS: Final = 30.0
"""From the last byte of a request's body to the response."""
IMAGE_READERS: Final = ThreadPoolExecutor(2, thread_name_prefix="image-reader")
"""Threads that read images: separate, as large images are slow, and few, as large images take much memory."""
WORKERS: Final = ThreadPoolExecutor(4, thread_name_prefix="worker")
"""Threads for other large requests; the background loops use their own threads."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Result = TypeVar("Result")


class Work:
    """Work in a thread for a client that may disconnect."""

    __slots__ = ("abandoned",)

    def __init__(self) -> None:
        self.abandoned = False
        """Whether nobody waits for the result any more."""

    def check(self) -> None:
        """Raise ClientDisconnectedError if the work is abandoned; called between two parts of the work."""
        if self.abandoned:
            raise ClientDisconnectedError


async def in_thread(
    executor: ThreadPoolExecutor,
    job: Callable[[Work], Result],
    receive: Receive | None = None,
    seconds: float = DEADLINE_SECONDS,
) -> Result:
    """Run `job` and return its result; `receive` detects a disconnect, once the body has been read.

    Raises ClientDisconnectedError if the client disconnects, RefusedError with 503 at the deadline, and what the job
    raises.
    """
    work = Work()
    running: asyncio.Future[Result] = asyncio.get_running_loop().run_in_executor(executor, job, work)
    disconnect = None if receive is None else asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        awaited: list[asyncio.Future[Any]] = [running] if disconnect is None else [running, disconnect]
        await asyncio.wait(awaited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        if disconnect is not None and disconnect.done():
            raise ClientDisconnectedError
        raise RefusedError(
            f"The request took longer than {seconds:g} s", "Send fewer rows, or smaller ones.", status=503
        )
    finally:
        work.abandoned = True
        if not running.done():
            running.cancel()  # a job that has not started never starts
        if disconnect is not None:
            disconnect.cancel()


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
