"""kill -9 of the supervisor: the guardian starts another, and nothing that was answered is lost. The last test: it restarts everything."""

from __future__ import annotations

import psutil
import pytest

from phaseflow.embedded import supervisor
from tests.conftest import Platform
from tests.faults.conftest import Stopwatch, Traffic
from tests.tally import Row, Tally
from tests.test_loop import wait_for

pytestmark = pytest.mark.platform


def replaced(platform: Platform, pid: int) -> bool:
    """Whether another supervisor answers."""
    try:
        return bool(supervisor.call(platform.settings, "supervisor.getPID") != pid)
    except supervisor.GONE:
        return False


def test_a_killed_supervisor_is_replaced(platform: Platform, traffic: Traffic, tally: Tally) -> None:
    """The guardian starts another, which starts every program again; `up` waits until all are well."""
    with traffic("the supervisor killed", may_fail=True):
        process = psutil.Process(supervisor.call(platform.settings, "supervisor.getPID"))
        watch = Stopwatch()
        process.kill()
        process.wait(10)
        wait_for("another supervisor", lambda: replaced(platform, process.pid), 60)
        platform.command("up")
        programs = platform.programs()
        assert all(program["healthy"] for program in programs.values()), programs
        tally.add(Row(what="kill -9: supervisord", tried=1, note=f"whole after {watch}"))
    marks = [process.environ()[supervisor.MARK] for process in supervisor.members(platform.settings)]
    assert marks.count("serving") == 1, "no orphan of the killed supervisor is left"
