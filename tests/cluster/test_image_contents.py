"""The contents of the images."""

from __future__ import annotations

import json
import subprocess

import pytest

from phaseflow import discovery

COMPONENTS = ("airflow", "tabular", "registry", "serving", "monitor", "portal")


def inside(component: str, code: str) -> str:
    """Run code in a container as restricted as in the chart, with only /tmp writable; return its output."""
    command = ["docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp", "--network", "none", "--cap-drop", "ALL"]
    completed = subprocess.run(
        [*command, f"phaseflow/{component}:dev", "python", "-c", code], capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.strip()


@pytest.mark.parametrize("component", COMPONENTS)
def test_an_image_runs_as_an_unprivileged_user_and_has_labels(component: str) -> None:
    completed = subprocess.run(
        ["docker", "image", "inspect", f"phaseflow/{component}:dev"], capture_output=True, check=True
    )
    config = json.loads(completed.stdout)[0]["Config"]
    assert config["User"] == "1000:1000"
    assert config["Labels"]["org.opencontainers.image.title"] == f"phaseflow/{component}"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert inside(component, "import getpass, os; print(getpass.getuser(), os.getuid())") == "phaseflow 1000"


@pytest.mark.parametrize("component", COMPONENTS)
def test_no_image_holds_a_compiler_or_a_test_tool(component: str) -> None:
    code = "import shutil, importlib.util as u; print(shutil.which('gcc'), shutil.which('uv'), u.find_spec('pytest'))"
    assert inside(component, code) == "None None None"


def test_the_service_holds_onnxruntime_and_no_training_library() -> None:
    code = (
        "import importlib.util as u, onnxruntime, services.serving.model;"
        "print([n for n in ('sklearn', 'torch', 'skl2onnx', 'mlflow', 'airflow', 'evidently', 'kfp') if u.find_spec(n)])"
    )
    assert inside("serving", code) == "[]"


def test_every_project_can_be_read_in_every_image() -> None:
    code = "from phaseflow import discovery; print(len(discovery.all_projects()))"
    assert {int(inside(component, code)) for component in COMPONENTS} == {len(discovery.names())}
