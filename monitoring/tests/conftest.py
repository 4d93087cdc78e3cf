"""The installed programs of Prometheus and Alertmanager."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest

from cli.local import binaries
from cli.local.binaries import Binaries
from phaseflow.settings import from_environment
from phaseflow.testing import free_port, wait_for


@pytest.fixture(scope="session")
def programs() -> Binaries:
    return binaries.ensure(from_environment(), print)


@pytest.fixture(scope="session")
def promtool(programs: Binaries) -> Path:
    return programs.promtool


def load(programs: Binaries, configuration: Path) -> None:
    """Start Alertmanager with the configuration until it is ready."""
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={configuration}", f"--storage.path={configuration.parent}", "--cluster.listen-address="]
    log = configuration.with_suffix(".log")

    def ready() -> bool:
        return process.poll() is not None or httpx.get(f"http://{address}/-/ready", trust_env=False).is_success

    with log.open("w") as output:
        process = subprocess.Popen(
            [programs.alertmanager, *options, f"--web.listen-address={address}"], stdout=output, stderr=output
        )
    try:
        wait_for("Alertmanager", ready, 60, httpx.TransportError)
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait()
