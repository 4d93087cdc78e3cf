"""A step exits with 2 if a retry would fail again, and with 1 if it may succeed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from phaseflow import ContractError, DataError, PermanentError, PhaseflowError, PlatformError
from phaseflow.errors import from_output
from phaseflow.settings import ROOT


def step(home: Path, name: str = "extract", project: str = "titanic") -> subprocess.CompletedProcess[str]:
    (home / "mirror").mkdir(exist_ok=True)
    arguments = ["--project", project, "--run", "r", "--result", str(home / "result.json")]
    return subprocess.run(
        [sys.executable, "-m", "pipelines.etl", name, *arguments],
        cwd=ROOT,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "PHASEFLOW_HOME": str(home),
            "PHASEFLOW_STORE": str(home / "store"),
            "PHASEFLOW_OFFLINE": "1",
            "PHASEFLOW_DATA_MIRROR": str(home / "mirror"),
        },
        capture_output=True,
        text=True,
    )


def test_an_unavailable_store_exits_with_1_and_a_retry_succeeds(tmp_path: Path) -> None:
    (tmp_path / "store").touch()  # a file where a folder must be
    away = step(tmp_path)
    assert away.returncode == 1, away.stderr
    assert not (tmp_path / "result.json").exists()
    (tmp_path / "store").unlink()
    completed = step(tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert json.loads((tmp_path / "result.json").read_text())["source"] == "sample"


def test_wrong_data_ends_with_2_and_the_error_last(tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "titanic.csv").write_text("PassengerId,Survived,Pclass,Name\n1,0,3\n")
    completed = step(tmp_path)
    assert completed.returncode == 2
    error = from_output(completed.stderr)
    assert isinstance(error, DataError)
    assert "titanic.csv has SHA-256 " in error.problem
    assert completed.stderr.splitlines()[-2].endswith(f" ERROR etl: {error}")


def test_a_project_that_does_not_exist_ends_with_2(tmp_path: Path) -> None:
    completed = step(tmp_path, project="nothing")
    assert completed.returncode == 2
    assert " ERROR etl: There is no project 'nothing'" in completed.stderr


def test_a_step_without_its_predecessors_result_ends_with_1(tmp_path: Path) -> None:
    assert step(tmp_path, "snapshot").returncode == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [(PlatformError, 1), (PermanentError, 2), (DataError, 2), (ContractError, 2), (PhaseflowError, 2)],
)
def test_the_status_of_each_error(error: type[PhaseflowError], status: int) -> None:
    assert error("What went wrong", fix="Mend it").exit_status == status
