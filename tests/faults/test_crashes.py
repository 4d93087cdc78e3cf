"""kill -9 of each program: it restarts, and no served prediction is lost."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Mapping

import pytest

from phaseflow.testing import wait_for
from tests.conftest import Platform
from tests.faults.conftest import Stopwatch, Traffic, healthy, pid_of, wait_for_predictions
from tests.tally import Row, Tally

pytestmark = pytest.mark.platform
SECONDS = 180.0
"""Limit until a killed program is healthy again; Airflow's API server takes half a minute on two idle cores."""


def returned(platform: Platform, name: str, pid: int) -> bool:
    """Return whether the program is healthy and has a new pid."""
    return pid_of(platform, name) not in {0, pid} and healthy(platform, name)


def test_every_program_returns_from_kill_9(platform: Platform, traffic: Traffic, tally: Tally) -> None:
    """All of Airflow's programs at once, then all others but the service."""
    names = [name for name in sorted(platform.programs()) if name != "serving"]
    assert len(names) >= 9
    with traffic("each other program killed") as load:
        for group in ([n for n in names if "airflow" in n], [n for n in names if "airflow" not in n]):
            pids, watch = {name: pid_of(platform, name) for name in group}, Stopwatch()
            for pid in pids.values():
                os.kill(pid, signal.SIGKILL)
            while pids:
                name = wait_for(f"the return of {', '.join(pids)}", functools.partial(back, platform, pids), SECONDS)
                del pids[name]
                tally.add(Row(what=f"kill -9: {name}", attempts=1, note=f"back after {watch}"))
        wait_for_predictions(load)


def back(platform: Platform, pids: Mapping[str, int]) -> str:
    """Return the name of a program that is healthy and has a new pid, or an empty string."""
    programs = platform.programs()
    return next((n for n, pid in pids.items() if programs[n]["healthy"] and programs[n]["pid"] not in {0, pid}), "")


def test_the_service_returns_from_kill_9(platform: Platform, traffic: Traffic, tally: Tally) -> None:
    with traffic("the service killed three times", may_fail=True) as load:
        for _ in range(3):
            pid, watch = pid_of(platform, "serving"), Stopwatch()
            os.kill(pid, signal.SIGKILL)
            wait_for("the service's return", functools.partial(returned, platform, "serving", pid), SECONDS)
            wait_for_predictions(load)
            tally.add(Row(what="kill -9: serving", attempts=1, note=f"back after {watch}"))
