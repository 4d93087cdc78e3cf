from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from dags.modules import ModuleOperator

RUN = '#!/bin/sh\nwhile [ "$1" != "--result" ]; do shift; done\nresult=$2\n'
"""Start of a script that stands in for an interpreter, and knows the file for its result."""


@pytest.fixture
def venvs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHASEFLOW_VENVS", str(tmp_path))
    return tmp_path


def operator(venvs: Path, script: str) -> ModuleOperator:
    python = venvs / "tabular" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(RUN + script)
    python.chmod(0o755)
    return ModuleOperator(task_id="extract", group="tabular", module="pipelines.etl", arguments=["extract"])


def execute(task: ModuleOperator) -> Any:
    return task.execute({})


def test_the_result_comes_from_the_file_and_the_output_is_logged(
    venvs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = operator(venvs, 'echo out; echo err >&2; echo \'{"rows": 3}\' > "$result"')
    assert execute(task) == {"rows": 3}
    output = capsys.readouterr().out
    assert "-m pipelines.etl extract" in output
    assert "out " in output
    assert "err " in output


def test_wrong_data_is_not_retried_and_raises_the_reported_error(venvs: Path) -> None:
    report = json.dumps({"error": "DataError", "problem": "The CSV holds nothing", "fix": "Get the file again"})
    task = operator(venvs, f"echo reading; echo '{report}' >&2; exit 2")
    with pytest.raises(AirflowFailException, match=r"^The CSV holds nothing\. Get the file again\.$"):
        execute(task)


def test_another_failure_is_retried_and_raises_the_last_line(venvs: Path) -> None:
    with pytest.raises(AirflowException, match=r"^pipelines\.etl exited with 137: no disk left$") as error:
        execute(operator(venvs, "echo no disk left >&2; exit 137"))
    assert not isinstance(error.value, AirflowFailException)


def test_the_error_for_a_missing_environment_tells_how_to_make_it(venvs: Path) -> None:
    task = ModuleOperator(task_id="x", group="torch", module="m", arguments=[])
    with pytest.raises(
        AirflowFailException, match=r"torch/bin/python does not exist\. Make it by `make \.venvs/torch/\.ready`"
    ):
        execute(task)


def test_a_child_gets_no_settings_of_airflow(venvs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY_CMD", "cat key")
    task = operator(venvs, 'printf \'{"left": %s}\' "$(env | grep -c AIRFLOW)" > "$result"')
    assert execute(task) == {"left": 0}


def test_a_killed_task_kills_the_child_and_its_children(venvs: Path) -> None:
    task = operator(venvs, f'sleep 300 & echo $! > {venvs}/grandchild; touch "$result"; wait')
    errors: list[BaseException] = []

    def run() -> None:
        try:
            execute(task)
        except AirflowException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    end = time.monotonic() + 10
    while not (venvs / "grandchild").exists() or not (venvs / "grandchild").read_text().strip():
        assert time.monotonic() < end
        time.sleep(0.02)
    grandchild = int((venvs / "grandchild").read_text())
    task.on_kill()
    thread.join(10)
    assert not thread.is_alive()
    assert "exited with -9" in str(errors[0])
    while psutil.pid_exists(grandchild) and psutil.Process(grandchild).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.02)
