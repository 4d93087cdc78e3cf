"""Each dependency goes away, hangs, and comes back, while predictions go on: none fails, and none is lost."""

from __future__ import annotations

import os
import signal

import httpx
import pytest

from phaseflow.embedded import supervisor
from tests.conftest import Platform
from tests.faults.conftest import Traffic, healthy, pid_of, started
from tests.test_loop import wait_for

pytestmark = pytest.mark.platform
DEPENDENCIES = ("mlflow", "prometheus", "alertmanager", "pipelines", "monitor", "portal", "airflow-api-server")
HUNG = ("mlflow", "prometheus", "pipelines")


def lives(platform: Platform) -> None:
    """The parts that are not away answer, and fast enough for a person and for a probe."""
    for url in (f"{platform.settings.serving_url}/readyz", f"{platform.settings.serving_url}/titanic/model"):
        assert httpx.get(url, timeout=10).status_code == 200, url


def test_each_dependency_away_and_back(platform: Platform, traffic: Traffic) -> None:
    with traffic("each dependency away and back") as load:
        for name in DEPENDENCIES:
            supervisor.call(platform.settings, "supervisor.stopProcess", name)
            try:
                started(load)
                lives(platform)
                if name != "portal":
                    assert httpx.get(platform.settings.portal_url, timeout=20).status_code == 200
                if name != "monitor":
                    assert httpx.get(f"{platform.settings.monitor_url}/healthz", timeout=10).status_code == 200
            finally:
                supervisor.call(platform.settings, "supervisor.startProcess", name, False)
            wait_for(f"{name}'s return", lambda name=name: healthy(platform, name), 180)


def test_a_dependency_that_hangs_hangs_nobody(platform: Platform, traffic: Traffic) -> None:
    """A process that accepts connections and never answers is worse than one that is gone."""
    with traffic("dependencies that hang") as load:
        pids = [pid_of(platform, name) for name in HUNG]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                started(load, 50)
                lives(platform)
            assert httpx.get(platform.settings.portal_url, timeout=20).status_code == 200
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        for name in HUNG:
            wait_for(f"{name}'s health", lambda name=name: healthy(platform, name), 60)


def test_the_service_itself_away_and_back(platform: Platform, traffic: Traffic) -> None:
    """What is under way when it is told to stop is answered and logged; what comes while it is away fails at its sender."""
    with traffic("the service stopped and started", may_fail=True):
        supervisor.call(platform.settings, "supervisor.stopProcess", "serving")
        supervisor.call(platform.settings, "supervisor.startProcess", "serving", False)
        wait_for("the service", lambda: healthy(platform, "serving"), 60)
