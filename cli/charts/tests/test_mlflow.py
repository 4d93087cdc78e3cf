"""Tests of the hosts and origins that MLflow's server accepts, by MLflow's own functions."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from cli.charts.tests.rendering import Helm, pods
from phaseflow.settings import ROOT

JUDGE = """
import json, sys
from mlflow.server.security_utils import is_allowed_host_header, should_block_cors_request
hosts, origins, asked = json.load(sys.stdin)
json.dump({
    "hosts": {host: is_allowed_host_header(hosts, host) for host in asked["hosts"]},
    "origins": {origin: not should_block_cors_request(origin, "POST", origins) for origin in asked["origins"]},
}, sys.stdout)
"""


def flag(script: str, name: str) -> list[str]:
    match = re.search(rf"--{name} '([^']*)'", script)
    assert match, f"{name} is not in: {script}"
    return match[1].split(",")


def accepted(helm: Helm, values: str, headers: dict[str, list[str]]) -> Any:
    pod = dict(pods(helm.objects("platform", "--set", values)))["Deployment p-mlflow"]
    (script,) = pod["spec"]["containers"][0]["args"]
    flags = [flag(script, "allowed-hosts"), flag(script, "cors-allowed-origins"), headers]
    python = ROOT / ".venvs" / "registry" / "bin" / "python"
    completed = subprocess.run(
        [python, "-c", JUDGE], input=json.dumps(flags), capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr
    return json.loads(completed.stdout)


@pytest.mark.parametrize(
    ("public_url", "host"),
    [
        ("https://ml.example.com", "ml.example.com"),
        ("http://192.168.1.20:30080", "192.168.1.20:30080"),
        ("http://localhost:30080", "localhost:30080"),
    ],
)
def test_mlflow_accepts_its_own_pages_and_no_others(helm: Helm, public_url: str, host: str) -> None:
    hosts = {
        host: True,
        "p-mlflow:5000": True,
        "p-mlflow.phaseflow.svc:5000": True,
        "p-mlflow.phaseflow.svc.cluster.local:5000": True,
        "localhost:43210": True,  # kubectl port-forward
        "127.0.0.1:5000": True,
        "tools.example.org": True,
        "a.team.example.org": True,
        "evil.com": False,
        f"{host.partition(':')[0]}.evil.com": False,
        "p-mlflow.phaseflow:5000": False,  # a namespace may be a public top-level domain
    }
    foreign = ("http://evil.com", f"http://{host.partition(':')[0]}.evil.com", "null")
    origins = {public_url: True, **dict.fromkeys(foreign, False)}
    verdict = accepted(
        helm,
        f"global.publicUrl={public_url}/,global.allowedHosts={{tools.example.org,.team.example.org}}",
        {"hosts": list(hosts), "origins": list(origins)},
    )
    assert verdict == {"hosts": hosts, "origins": origins}
