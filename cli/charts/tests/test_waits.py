"""Tests of what a pod waits for before its program starts."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cli.charts.tests.rendering import Helm, of_kind
from tests import stores


@pytest.fixture
def http_server() -> Iterator[int]:
    """Port of a server that answers every request by HTTP."""
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def is_database(helm: Helm, port: int) -> bool:
    """Run the check of MLflow's pod against a port of this machine, once."""
    values = f"global.postgres.host=127.0.0.1,global.postgres.port={port},global.postgres.existingSecret=given"
    (deployment,) = of_kind(helm.objects("mlflow", "--set", values), "Deployment")
    pod = deployment["spec"]["template"]
    command = " ".join(pod["spec"]["containers"][0]["args"])
    match = re.search(r"until python -c '([^']+)'", command)
    assert match, command
    return subprocess.run([sys.executable, "-c", match[1]], check=False, timeout=30).returncode == 0


def test_only_postgres_is_taken_for_the_database(helm: Helm, http_server: int) -> None:
    assert not is_database(helm, http_server)
    assert not is_database(helm, 1)
    with stores.postgres("super", {}) as server:
        assert is_database(helm, server.port)
