"""Each dependency stops, hangs and recovers during predictions: no prediction fails, and none is lost."""

from __future__ import annotations

import functools
import os
import signal

import httpx
import pytest

from cli.local import supervisor
from phaseflow.testing import wait_for
from tests.conftest import Platform
from tests.faults.conftest import Traffic, healthy, pid_of, wait_for_predictions

pytestmark = pytest.mark.platform
DEPENDENCIES = ("mlflow", "prometheus", "alertmanager", "pipelines", "monitor", "portal", "airflow-api-server")
RESPONDING = ("monitor", "portal")
"""Those that must respond while the next dependency is away. The others start meanwhile."""
HUNG = ("mlflow", "prometheus", "pipelines")


def assert_healthy(platform: Platform) -> None:
    """Assert that the service responds fast enough for a user and for a probe."""
    for url in (f"{platform.settings.serving_url}/readyz", f"{platform.settings.serving_url}/titanic/model"):
        assert httpx.get(url, timeout=10).status_code == 200, url


def test_each_dependency_away_and_back(platform: Platform, traffic: Traffic) -> None:
    with traffic("each dependency away and back") as load:
        for name in DEPENDENCIES:
            supervisor.call(platform.settings, "supervisor.stopProcess", name)
            try:
                wait_for_predictions(load)
                assert_healthy(platform)
                if name != "portal":
                    assert httpx.get(platform.settings.portal_url, timeout=20).status_code == 200
                if name != "monitor":
                    assert httpx.get(f"{platform.settings.monitor_url}/healthz", timeout=10).status_code == 200
            finally:
                supervisor.call(platform.settings, "supervisor.startProcess", name, False)
            if name in RESPONDING:
                wait_for(f"{name}'s return", functools.partial(healthy, platform, name), 180)
        for name in DEPENDENCIES:
            wait_for(f"{name}'s return", functools.partial(healthy, platform, name), 180)


def test_a_dependency_that_hangs_hangs_nobody(platform: Platform, traffic: Traffic) -> None:
    """A process that accepts connections and never responds is worse than a stopped one."""
    with traffic("dependencies that hang") as load:
        pids = [pid_of(platform, name) for name in HUNG]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                wait_for_predictions(load, 50)
                assert_healthy(platform)
            assert httpx.get(platform.settings.portal_url, timeout=20).status_code == 200
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        for name in HUNG:
            wait_for(f"{name}'s health", functools.partial(healthy, platform, name), 60)


def test_the_service_itself_away_and_back(platform: Platform, traffic: Traffic) -> None:
    """Requests in flight at the stop are served and logged; requests during the downtime fail on the client's side."""
    with traffic("the service stopped and started", may_fail=True):
        supervisor.call(platform.settings, "supervisor.stopProcess", "serving")
        supervisor.call(platform.settings, "supervisor.startProcess", "serving", False)
        wait_for("the service", lambda: healthy(platform, "serving"), 60)
