"""kill -9 of the supervisor: it is started again, or missed, and nothing that was answered is lost. The last test: it restarts everything."""

from __future__ import annotations

import psutil
import pytest

from phaseflow.embedded import supervisor
from tests.conftest import Platform
from tests.faults.conftest import Stopwatch, Traffic
from tests.tally import Row, Tally

pytestmark = pytest.mark.platform


def test_a_killed_supervisor_is_replaced_or_missed(platform: Platform, traffic: Traffic, tally: Tally) -> None:
    """Whoever asks for the status hears of it, if nobody has started it again by then; `up` makes everything whole."""
    with traffic("the supervisor killed", may_fail=True):
        process = psutil.Process(supervisor.call(platform.settings, "supervisor.getPID"))
        watch = Stopwatch()
        process.kill()
        process.wait(10)
        status = platform.command("status", check=False)
        if status.returncode == 0:
            assert supervisor.running(platform.settings), status.stdout
        else:
            assert "supervisor" in (status.stdout + status.stderr).lower(), status.stdout + status.stderr
        platform.command("up")
        programs = platform.programs()
        assert all(program["healthy"] for program in programs.values()), programs
        tally.add(Row(what="kill -9: supervisord", tried=1, note=f"whole after {watch}"))
    marks = [process.environ()[supervisor.MARK] for process in supervisor.members(platform.settings)]
    assert marks.count("serving") == 1, "no orphan of the killed supervisor is left"
