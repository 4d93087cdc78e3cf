"""MLflow's own programs on a registered model, each in a process without phaseflow."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from phaseflow.testing import free_port, wait_for

SCRIPT = Path(__file__).parent / "score.py"
MLFLOW = Path(sys.executable).with_name("mlflow")


def isolated(tracking: str = "") -> dict[str, str]:
    """The environment of a process that finds no phaseflow: no PYTHONPATH, and no module of the folder it runs in."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PHASEFLOW"))}
    environment["PATH"] = f"{MLFLOW.parent}{os.pathsep}{environment['PATH']}"  # `mlflow models serve` starts uvicorn
    off = {"PYTHONSAFEPATH": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    return environment | off | ({"MLFLOW_TRACKING_URI": tracking} if tracking else {})


def score(model_uri: str, rows: Sequence[Mapping[str, Any]], folder: Path, tracking: str = "") -> dict[str, Any]:
    """The result of `score.py` for rows as a client sends them."""
    (folder / "rows.json").write_text(json.dumps(rows))
    argv = [sys.executable, "-I", str(SCRIPT), model_uri, "rows.json", "result.json"]
    run(argv, folder, tracking)
    return dict(json.loads((folder / "result.json").read_text()))


def run(argv: Sequence[str], folder: Path, tracking: str = "") -> str:
    """Run a command in a folder, and return its output."""
    completed = subprocess.run(
        argv, cwd=folder, env=isolated(tracking), capture_output=True, text=True, check=False, timeout=600
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


@contextlib.contextmanager
def served(model_uri: str, folder: Path, tracking: str = "") -> Iterator[str]:
    """The address of `mlflow models serve`."""
    port = free_port()
    argv = [str(MLFLOW), "models", "serve", "--model-uri", model_uri, "--env-manager", "local", "--port", str(port)]
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(argv, cwd=folder, env=isolated(tracking), stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for("mlflow models serve", lambda: responds(url), 300)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def responds(url: str) -> bool:
    """Whether the scoring server is up."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/ping", timeout=5).status_code == 200
    return False
