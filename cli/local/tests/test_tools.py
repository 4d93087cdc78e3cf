"""The user's own variables of the tools: which are taken, where they go, and the errors."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from cli.local import airflow, passwords, supervisor, tools
from cli.local.lifecycle import run_step
from cli.local.program import Step
from phaseflow import PlatformError
from phaseflow.settings import Settings, from_environment

FILE = """# of this machine

AIRFLOW__API__INSTANCE_NAME=ours = theirs
MLFLOW_HTTP_REQUEST_TIMEOUT=30
GF_SECURITY_ADMIN_PASSWORD__FILE=/run/password
"""
VARIABLES = {
    "AIRFLOW__API__INSTANCE_NAME": "ours = theirs",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "GF_SECURITY_ADMIN_PASSWORD__FILE": "/run/password",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tools.env"


@pytest.fixture
def settings(tmp_path: Path, path: Path) -> Settings:
    path.write_text(FILE)
    return from_environment({"PHASEFLOW_HOME": str(tmp_path / "home"), "PHASEFLOW_ENV_FILE": str(path)})


def test_they_go_over_the_variables_of_a_program(settings: Settings) -> None:
    (api_server, *_) = airflow.programs(settings)
    assert api_server.environment["AIRFLOW__API__INSTANCE_NAME"] == "phaseflow"
    variables = supervisor.overridden(settings, api_server.environment)
    assert variables.items() >= VARIABLES.items()
    assert variables["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    configuration = supervisor.configuration(settings, (api_server,))
    assert configuration.count("ours = theirs") == 2  # of the program and, as for every command, of the guardian
    assert 'AIRFLOW__API__INSTANCE_NAME="phaseflow"' not in configuration


def test_a_step_has_them_too(settings: Settings) -> None:
    argv = ("sh", "-c", "echo $AIRFLOW__API__INSTANCE_NAME $OWN")
    run_step(settings, Step(name="echo", argv=argv, environment={"AIRFLOW__API__INSTANCE_NAME": "x", "OWN": "y"}))
    assert supervisor.log(settings, "echo").read_text() == "ours = theirs y\n"


def test_without_a_file_there_are_none(settings: Settings) -> None:
    without = dataclasses.replace(settings, env_file=None)
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in supervisor.environment(without)
    assert tools.read(None) == {}


def test_a_relative_path_holds_for_processes_in_other_folders(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(settings.home.parent)
    relative = dataclasses.replace(settings, env_file=Path("tools.env"))
    assert supervisor.environment(relative)["PHASEFLOW_ENV_FILE"] == str(settings.env_file)


@pytest.mark.parametrize(
    ("line", "problem", "fix"),
    [
        ("AIRFLOW__API__PORT", "is not NAME=value", "Write one variable per line"),
        ("export GF_LOG_LEVEL=debug", "is not NAME=value", "Write one variable per line"),
        ("PATH=/bin", "sets PATH, which is of no tool; allowed prefixes: AIRFLOW__, ", "in the shell"),
        ("AIRFLOW_CORE=x", "sets AIRFLOW_CORE, which is of no tool", "AIRFLOW__"),
        ("MLFLOW_TRACKING_URI=http://x", "by which the parts of the platform find each other", "PHASEFLOW_PORT_OFFSET"),
        ("GF_SECURITY_ADMIN_PASSWORD=x", "would put a secret into the environment", "GF_..__FILE"),
        ("AIRFLOW__CORE__FERNET_KEY=x", "would put a secret into the environment", "AIRFLOW__.._CMD"),
        ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql://a:b@c/d", "would put a secret", "AIRFLOW__.._CMD"),
    ],
)
def test_other_lines_are_refused_with_the_fix(path: Path, line: str, problem: str, fix: str) -> None:
    path.write_text(f"# first\n{line}\n")
    with pytest.raises(PlatformError) as raised:
        tools.read(path)
    assert f"line 2 of {path} " in raised.value.problem
    assert problem in raised.value.problem
    assert fix in raised.value.fix
    assert "=x" not in str(raised.value)  # no value is shown


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(PlatformError, match=r"can't be read: .*No such file"):
        tools.read(path)


def test_airflow_takes_what_is_set(settings: Settings) -> None:
    passwords.ensure(settings)
    (api_server, *_) = airflow.programs(settings)
    variables = supervisor.inherited() | supervisor.overridden(settings, api_server.environment)
    program = [str(Path(api_server.argv[0])), "config", "get-value", "api", "instance_name"]
    completed = subprocess.run(program, env=variables, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.splitlines()[-1] == "ours = theirs"
