from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from cli.local import binaries
from monitoring import prometheus
from monitoring.__main__ import main
from monitoring.windows import Windows
from phaseflow.settings import from_environment


def test_an_empty_panel_is_reported_with_the_target_that_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real Prometheus reports a target that refuses connections."""
    with socket.socket() as first, socket.socket() as second:
        for listener in (first, second):
            listener.bind(("127.0.0.1", 0))
        port, dead_port = first.getsockname()[1], second.getsockname()[1]
    url, target = f"http://127.0.0.1:{port}", f"127.0.0.1:{dead_port}"
    configuration = prometheus.configuration(
        Windows(window_seconds=600, minimum_rows=100, hold_seconds=60, scrape_seconds=1),
        {"monitor": target, "prometheus": f"127.0.0.1:{port}"},
        target,
        "none/*.yaml",
    )
    (tmp_path / "prometheus.yml").write_text(json.dumps(configuration))
    program = [str(binaries.ensure(from_environment(), print).prometheus), f"--config.file={tmp_path}/prometheus.yml"]
    program += [f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}"]
    monkeypatch.setenv("PHASEFLOW_PROMETHEUS_URL", url)

    def down() -> bool:
        try:
            targets = httpx.get(f"{url}/api/v1/targets").raise_for_status().json()["data"]["activeTargets"]
        except httpx.HTTPError:  # it is starting
            return False
        return sorted(target["health"] for target in targets) == ["down", "up"]

    with (tmp_path / "log").open("w") as log, subprocess.Popen(program, stdout=log, stderr=log) as process:
        try:
            end = time.monotonic() + 60
            while not down():
                assert time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(0.2)
            assert main(["check", "--dashboard", "phaseflow-platform"]) == 1
        finally:
            process.terminate()
    output = capsys.readouterr().out
    assert 'Retrainings: no data: sum(phaseflow_retrain_requests_total{outcome="triggered"})' in output
    assert f"monitor is not scraped: http://{target}/metrics: " in output
    assert "connection refused" in output
    assert "prometheus is not scraped" not in output
