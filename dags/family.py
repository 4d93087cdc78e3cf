"""A task that runs a module in another environment's interpreter: Airflow orders, waits and shows, and imports nothing of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from phaseflow.settings import ROOT

WRONG = 2
"""Exit status of a step whose input is wrong: another try would not help."""


def run_of(run_id: str) -> str:
    """Airflow's run id as a name of files (ARCHITECTURE.md)."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", run_id)


class InterpreterOperator(BaseOperator):
    """Run `python -m MODULE ARGUMENTS --result FILE`; its log lines are the task's, its JSON result the XCom.

    Raises AirflowFailException (no retry) with the error's text when the module ends with 2.
    """

    template_fields: Sequence[str] = ("arguments",)

    def __init__(self, *, python: str, module: str, arguments: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.python = python
        self.module = module
        self.arguments = list(arguments)
        self._child: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        """Run it to its end."""
        arguments = [part.replace("{run}", run_of(context["run_id"])) for part in self.arguments]
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "result.json"
            command = [self.python, "-m", self.module, *arguments, "--result", str(result)]
            self.log.info("%s", " ".join(command))
            environment = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW__")}
            try:
                self._child = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise AirflowFailException(f"{self.python} is missing. Make it by `make setup`.") from error
            last = ""
            assert self._child.stdout is not None  # noqa: S101  # it is a pipe
            for line in self._child.stdout:
                last = line.rstrip() or last
                self.log.info("%s", line.rstrip())
            status = self._child.wait()
            if status == WRONG:
                raise AirflowFailException(last.removeprefix("error: "))
            if status:
                raise AirflowException(f"{self.module} ended with {status}: {last}")
            found: dict[str, Any] = json.loads(result.read_text())
            return found

    def on_kill(self) -> None:
        """End the process and all that it started."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGTERM)
