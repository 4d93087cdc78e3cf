"""Runs a component's module with its own interpreter, as a child process that logs to the task's log."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from phaseflow import environments
from phaseflow.errors import PERMANENT, PlatformError, from_output
from phaseflow.settings import ROOT, from_environment


class ModuleOperator(BaseOperator):
    """Runs `python -m <module> <arguments> --result FILE` in the environment `group`; the result is the JSON in the file.

    Raises AirflowFailException (no retry) with the child's last line of output if it exits with `PERMANENT`, AirflowException with that
    line if it exits with another status than 0.
    """

    template_fields: Sequence[str] = ("arguments",)

    def __init__(self, *, group: str, module: str, arguments: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.group = group
        self.module = module
        self.arguments = arguments
        self._child: subprocess.Popen[str] | None = None

    def execute(self, context: Context) -> Any:  # noqa: ARG002  # Airflow's signature
        """Run the module, and return its result."""
        settings = from_environment()
        if not settings.python(self.group).exists():
            self.log.info("Creating the environment %s; the first run that needs it waits for it.", self.group)
        try:
            python = environments.interpreter(settings, self.group)
        except PlatformError as error:
            if error.exit_status == PERMANENT:
                raise AirflowFailException(str(error)) from error
            raise
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "result.json"
            argv = [str(python), "-m", self.module, *self.arguments, "--result", str(result)]
            self.log.info("%s", " ".join(argv[1:-2]))
            code, last = self._run(argv)
            if code == PERMANENT:
                raise AirflowFailException(message(last))
            if code:
                raise AirflowException(f"{self.module} exited with {code}: {message(last)}")
            return json.loads(result.read_text())

    def _run(self, argv: list[str]) -> tuple[int, str]:
        """Run the command; returns its exit status and its last line. If the task ends, the child and its children are killed."""
        last = "it printed nothing"
        self._child = subprocess.Popen(
            argv,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            assert self._child.stdout is not None  # noqa: S101  # for the type checker: it is a pipe
            for line in self._child.stdout:
                if text := line.rstrip():
                    last = text
                    self.log.info("%s", text)
            return self._child.wait(), last
        finally:
            self.on_kill()

    def on_kill(self) -> None:
        """Kill the child's process group if the child is still running."""
        if self._child is not None and self._child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()


def message(last: str) -> str:
    """Return the error that the last line of a module's output reports, or else the line itself."""
    return str(from_output(last) or last)


def environment() -> dict[str, str]:
    """The environment variables of a child process, without Airflow's own settings."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW_", "_AIRFLOW_"))}
    return variables | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
