from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from dags.modules import ModuleOperator

RUN = '#!/bin/sh\nwhile [ "$1" != "--result" ]; do shift; done\nresult=$2\n'
"""An interpreter that knows where its result goes."""


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


def test_the_result_is_the_file_and_the_log_the_tasks(venvs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = operator(venvs, 'echo out; echo err >&2; echo \'{"rows": 3}\' > "$result"')
    assert execute(task) == {"rows": 3}
    shown = capsys.readouterr().out
    assert "-m pipelines.etl extract" in shown
    assert "out " in shown
    assert "err " in shown


def test_wrong_data_is_not_retried_and_brings_the_last_line(venvs: Path) -> None:
    task = operator(venvs, 'echo reading; echo "error: The CSV holds nothing. Get the file again." >&2; exit 2')
    with pytest.raises(AirflowFailException, match=r"^The CSV holds nothing\. Get the file again\.$"):
        execute(task)


def test_another_failure_is_retried_and_brings_the_last_line(venvs: Path) -> None:
    with pytest.raises(AirflowException, match=r"^pipelines\.etl ended with 137: no disk left$") as error:
        execute(operator(venvs, "echo no disk left >&2; exit 137"))
    assert not isinstance(error.value, AirflowFailException)


def test_a_missing_environment_says_how_it_is_made(venvs: Path) -> None:
    task = ModuleOperator(task_id="x", group="torch", module="m", arguments=[])
    with pytest.raises(
        AirflowFailException, match=r"torch/bin/python does not exist\. Make it by `make \.venvs/torch/\.ready`"
    ):
        execute(task)


def test_a_child_knows_nothing_of_airflow(venvs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY_CMD", "cat key")
    task = operator(venvs, 'printf \'{"left": %s}\' "$(env | grep -c AIRFLOW)" > "$result"')
    assert execute(task) == {"left": 0}


def test_a_killed_task_takes_the_child_and_what_it_started_along(venvs: Path) -> None:
    task = operator(venvs, f'sleep 300 & echo $! > {venvs}/grandchild; touch "$result"; wait')
    failed: list[BaseException] = []

    def run() -> None:
        try:
            execute(task)
        except AirflowException as error:
            failed.append(error)

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
    assert "ended with -9" in str(failed[0])
    while psutil.pid_exists(grandchild) and psutil.Process(grandchild).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.02)
