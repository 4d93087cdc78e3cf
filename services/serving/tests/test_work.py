"""Work in a thread ends at its deadline, or when its client disconnects."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from services.serving.requests import ClientDisconnectedError, RefusedError
from services.serving.work import Work, in_thread


def run(main: Callable[[ThreadPoolExecutor], Any]) -> None:
    with ThreadPoolExecutor(1) as executor:
        asyncio.run(main(executor))


async def stays() -> dict[str, Any]:
    """A client that waits."""
    await asyncio.Event().wait()
    raise AssertionError


def test_a_result_and_an_error_come_through() -> None:
    def wrong(_work: Work) -> int:
        raise RefusedError("no", "yes")

    async def main(executor: ThreadPoolExecutor) -> None:
        assert await in_thread(executor, lambda _: 3, stays) == 3
        assert await in_thread(executor, lambda _: 4) == 4
        with pytest.raises(RefusedError, match="no"):
            await in_thread(executor, wrong, stays)

    run(main)


@pytest.mark.parametrize("leaves", [True, False], ids=["client gone", "deadline"])
def test_what_nobody_waits_for_ends_and_what_has_not_begun_never_does(leaves: bool) -> None:
    parts, begun, stopped, later = [0], threading.Event(), threading.Event(), threading.Event()

    def images(work: Work) -> None:
        """Many images, with a check before each whether the client still waits."""
        begun.set()
        try:
            while True:
                parts[0] += 1
                work.check()
        except ClientDisconnectedError:
            stopped.set()
            raise

    async def disconnect() -> dict[str, Any]:
        await asyncio.to_thread(begun.wait, 30)
        return {"type": "http.disconnect"}

    async def main(executor: ThreadPoolExecutor) -> None:
        receive, seconds = (disconnect, 30.0) if leaves else (stays, 0.2)
        first = asyncio.create_task(in_thread(executor, images, receive, seconds))
        second = asyncio.create_task(in_thread(executor, lambda _: later.set(), receive, seconds))
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
        assert await asyncio.to_thread(stopped.wait, 30)
        if leaves:
            assert isinstance(outcomes[0], ClientDisconnectedError)
        else:
            late = outcomes[0]
            assert isinstance(late, RefusedError)
            assert (late.status, late.problem) == (503, "The request took longer than 0.2 s")
            assert late.fix == "Send fewer rows, or smaller ones."

    run(main)
    assert parts[0] > 0
