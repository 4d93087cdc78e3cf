"""kill -9 of the supervisor: the guardian starts another one, and no served prediction is lost.

This test runs last, since it restarts everything.
"""

from __future__ import annotations

import psutil
import pytest

from cli.local import processes, supervisor
from phaseflow.testing import wait_for
from tests.conftest import Platform
from tests.faults.conftest import Stopwatch, Traffic
from tests.tally import Row, Tally

pytestmark = pytest.mark.platform


def replaced(platform: Platform, pid: int) -> bool:
    """Return whether another supervisor responds."""
    try:
        return bool(supervisor.call(platform.settings, "supervisor.getPID") != pid)
    except supervisor.UNREACHABLE:
        return False


def test_a_killed_supervisor_is_replaced(platform: Platform, traffic: Traffic, tally: Tally) -> None:
    """The guardian starts another supervisor, which starts every program; `up` waits until all are healthy."""
    with traffic("the supervisor killed", may_fail=True):
        process = psutil.Process(supervisor.call(platform.settings, "supervisor.getPID"))
        watch = Stopwatch()
        process.kill()
        process.wait(10)
        wait_for("another supervisor", lambda: replaced(platform, process.pid), 60)
        platform.command("up")
        # A health check may fail once more while everything starts at the same time.
        wait_for(
            "the health of every program", lambda: all(program["healthy"] for program in platform.programs().values())
        )
        tally.add(Row(what="kill -9: supervisord", attempts=1, note=f"whole after {watch}"))
    marks = list(processes.members(platform.settings.home).values())
    assert marks.count("serving") == 2, "BentoML's process manager and its worker; an orphan would be the third"
