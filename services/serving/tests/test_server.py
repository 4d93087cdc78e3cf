"""BentoML's server: its processes, its control channel, and its settings."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import psutil
import pytest

from phaseflow.settings import ROOT
from services.serving.tests.conftest import until


def sockets(process: psutil.Process) -> list[Path]:
    return [Path(c.laddr) for c in process.net_connections("unix") if str(c.laddr).endswith(("/control", "/events"))]


def test_its_port_is_the_only_one_and_the_control_channel_is_of_its_user_alone(serve: Any) -> None:
    service = serve().start()
    manager = psutil.Process(service.process.pid)
    listening = {
        (c.laddr.ip, c.laddr.port)
        for process in (manager, service.worker)
        for c in process.net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", service.port)}
    channel = sockets(manager)
    assert {path.name for path in channel} == {"control", "events"}
    folder = channel[0].parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    service.stop()
    assert not folder.exists()


def test_a_killed_worker_comes_back_and_no_connection_is_refused(serve: Any) -> None:
    service = serve().start()
    until(lambda: service.version() == "1")
    assert service.predict().status_code == 200
    worker = service.worker
    worker.kill()
    worker.wait(10)
    assert service.predict().status_code == 200  # the process manager holds the socket, so that the request waits
    assert service.worker.pid != worker.pid
    service.stop()
    assert service.logged().height == 2


def test_requests_are_not_logged_unless_bentomls_setting_says_so(serve: Any) -> None:
    service = serve().start()
    assert service.predict().status_code in {200, 503}
    service.stop()
    assert "/titanic/predict" not in service.log
    service = serve("other", environment={"BENTOML_CONFIG_OPTIONS": "services.phaseflow.logging.access.enabled=true"})
    service.start()
    assert service.predict().status_code in {200, 503}
    service.stop()
    (line,) = [line for line in service.log.splitlines() if "/titanic/predict" in line]
    assert "method=POST" in line


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_message_is_one_line_of_our_format(serve: Any, log_format: str) -> None:
    service = serve(environment={"PHASEFLOW_LOG_FORMAT": log_format}).start()
    service.stop()
    lines = service.log.splitlines()
    assert len(lines) == len(set(lines))
    assert len([line for line in lines if "Service phaseflow initialized" in line]) == 1
    if log_format == "json":
        assert {json.loads(line)["component"] for line in lines} == {"serving"}
    else:
        assert all(" serving: " in line for line in lines)


def test_the_chart_starts_it_as_one_machine_does(serve: Any) -> None:
    chart = (ROOT / "helm" / "serving" / "templates" / "services.yaml").read_text()
    (command,) = [line.strip() for line in chart.splitlines() if line.strip().startswith("command: [bentoml")]
    words = command.removeprefix("command: [").removesuffix("]").replace('"', "").split(", ")
    assert words == ["bentoml", *serve().command[1:]]
