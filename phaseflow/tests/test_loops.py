"""Loops survive exceptions, report their last success, and end the process if they can't continue."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys

import pytest

from phaseflow.loops import EXIT_STATUS, Loops
from phaseflow.settings import ROOT


def test_a_loop_survives_any_exception(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    async def main() -> None:
        finished = asyncio.Event()

        async def iterate() -> None:
            calls.append(len(calls))
            if len(calls) < 3:
                raise OSError(24, "Too many open files")
            finished.set()

        running = Loops(end=lambda: pytest.fail("the process must not end"))
        running.start("ship", iterate, seconds=0.001, max_age=60)
        before = running.last_iterations()["ship"]
        await asyncio.wait_for(finished.wait(), 30)
        await asyncio.sleep(0)
        assert running.overdue() == []
        assert running.last_iterations()["ship"] >= before
        await running.stop()

    logging.getLogger("phaseflow").propagate = True
    asyncio.run(main())
    assert len(calls) >= 3
    assert "the loop ship failed (1 in a row)" in caplog.text
    assert "Too many open files" in caplog.text


def test_a_loop_that_does_not_succeed_is_overdue() -> None:
    now = 1000.0

    async def main() -> None:
        nonlocal now

        async def hang() -> None:
            await asyncio.Event().wait()

        running = Loops(end=lambda: pytest.fail("the limit is not reached"), clock=lambda: now)
        running.start("follow", hang, seconds=1, max_age=10)
        now += 9
        assert running.overdue() == []
        now += 2
        assert running.overdue() == ["follow"]
        running.beat("follow")
        assert running.overdue() == []
        await running.stop()

    asyncio.run(main())


def test_a_loop_that_swallows_a_cancellation_is_stopped() -> None:
    async def main() -> int:
        cancellations = 0
        started = asyncio.Event()

        async def iterate() -> None:
            nonlocal cancellations
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancellations += 1
                if cancellations > 1:
                    raise

        running = Loops(end=lambda: pytest.fail("the process must not end"))
        running.start("work", iterate, seconds=0.0, max_age=60)
        await started.wait()
        await asyncio.wait_for(running.stop(), 30)
        return cancellations

    assert asyncio.run(main()) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("await asyncio.Event().wait()", "has not succeeded for"),  # it hangs
        ("raise ValueError('always')", "has not succeeded for"),  # it never succeeds
        ("threading.Event().wait()", "has not succeeded for"),  # the event loop itself is blocked
        ("raise SystemExit", ""),
    ],
)
def test_a_loop_that_can_not_continue_ends_the_process(body: str, message: str) -> None:
    program = f"""
import asyncio, threading
from phaseflow.loops import Loops
async def iterate():
    {body}
async def main():
    Loops().start("work", iterate, seconds=0.01, max_age=0.1, limit=0.5)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    completed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert completed.returncode in ({EXIT_STATUS} if message else {0, EXIT_STATUS}), completed.stderr
    assert message in completed.stderr


def test_a_broken_stderr_does_not_stop_a_loop() -> None:
    program = """
import asyncio, os, sys
from phaseflow import log
from phaseflow.loops import Loops
log.configure("test")
read, write = os.pipe()
os.dup2(write, 2)
os.close(write)
os.close(read)
count = 0
async def main():
    finished = asyncio.Event()
    async def iterate():
        global count
        count += 1
        if count == 3:
            finished.set()
        raise ValueError("nobody reads this")
    Loops().start("work", iterate, seconds=0.01, max_age=60)
    await asyncio.wait_for(finished.wait(), 30)
    print(count)
asyncio.run(main())
"""
    completed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert completed.returncode == 0
    assert int(completed.stdout) >= 3
