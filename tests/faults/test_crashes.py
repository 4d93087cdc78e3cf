"""kill -9 of each program: it is back by itself, and nothing that was answered is lost."""

from __future__ import annotations

import os
import signal

import pytest

from tests.conftest import Platform
from tests.faults.conftest import Stopwatch, Traffic, healthy, pid_of, started
from tests.tally import Row, Tally
from tests.test_loop import wait_for

pytestmark = pytest.mark.platform
SECONDS = 180.0
"""In which a killed program is healthy again; Airflow's API server takes half a minute on two idle cores."""


def returned(platform: Platform, name: str, pid: int) -> bool:
    """Whether the program has a new process and is well."""
    return pid_of(platform, name) not in {0, pid} and healthy(platform, name)


def test_every_program_returns_from_kill_9(platform: Platform, traffic: Traffic, tally: Tally) -> None:
    names = [name for name in sorted(platform.programs()) if name != "serving"]
    assert len(names) >= 9
    with traffic("each other program killed") as load:
        for name in names:
            pid, watch = pid_of(platform, name), Stopwatch()
            os.kill(pid, signal.SIGKILL)
            wait_for(f"{name}'s return", lambda name=name, pid=pid: returned(platform, name, pid), SECONDS)
            tally.add(Row(what=f"kill -9: {name}", tried=1, note=f"back after {watch}"))
        started(load)


def test_the_service_returns_from_kill_9(platform: Platform, traffic: Traffic, tally: Tally) -> None:
    with traffic("the service killed three times", may_fail=True) as load:
        for _ in range(3):
            pid, watch = pid_of(platform, "serving"), Stopwatch()
            os.kill(pid, signal.SIGKILL)
            wait_for("the service's return", lambda pid=pid: returned(platform, "serving", pid), SECONDS)
            started(load)
            tally.add(Row(what="kill -9: serving", tried=1, note=f"back after {watch}"))
