"""Logs of a run's failed pods, by the real client of Kubernetes and a small API server."""

from __future__ import annotations

import subprocess
from typing import Final

from phaseflow.settings import ROOT, from_environment
from phaseflow.testing import Request, Response, http_server

READ: Final = """
import sys
from kubernetes import client, config
config.load_incluster_config = lambda: client.Configuration.set_default(client.Configuration(host=sys.argv[1]))
from dags.cluster import failed_logs
print(*failed_logs("run-1", 60), sep="\\n")
"""
LOG: Final = "Traceback (most recent call last):\n  “Näher”\nValueError: no rows\n"


def respond(request: Request) -> Response:
    """List a failed and a succeeded pod, or return the log of the failed one."""
    if "/log?" in request.path:
        assert "/pods/failed/log" in request.path
        return Response(LOG, headers={"content-type": "text/plain"})
    assert "labelSelector=pipeline%2Frunid%3Drun-1" in request.path
    phases = {"done": "Succeeded", "failed": "Failed"}
    pods = [{"metadata": {"name": name}, "status": {"phase": phase}} for name, phase in phases.items()]
    return Response({"kind": "PodList", "apiVersion": "v1", "items": pods})


def test_the_log_of_a_failed_step_has_its_lines() -> None:
    # The client is in the environments with the Kubeflow SDK, and in Airflow's image.
    with http_server(respond) as url:
        completed = subprocess.run(
            [from_environment().python("tabular"), "-c", READ, url],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PHASEFLOW_KFP_NAMESPACE": "kfp"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.splitlines() == ["--- failed", *LOG.splitlines()]
