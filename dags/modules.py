"""Starts a component's own interpreter, as a child process whose log is the task's."""

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
from phaseflow.errors import PERMANENT, PlatformError
from phaseflow.settings import ROOT, from_environment


class ModuleOperator(BaseOperator):
    """`python -m <module> <arguments> --result FILE` in the environment `group`; the result is the JSON in the file.

    Raises AirflowFailException (no retry) with the child's last line where it ends with `PERMANENT`, AirflowException with it
    where it ends with anything else but 0.
    """

    template_fields: Sequence[str] = ("arguments",)

    def __init__(self, *, group: str, module: str, arguments: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.group = group
        self.module = module
        self.arguments = arguments
        self._child: subprocess.Popen[str] | None = None

    def execute(self, context: Context) -> Any:  # noqa: ARG002  # Airflow's signature
        """Run the module to its end."""
        settings = from_environment()
        if not settings.python(self.group).exists():
            self.log.info("The environment %s is made: the first run of its family waits for it.", self.group)
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
                raise AirflowFailException(last.removeprefix("error: "))
            if code:
                raise AirflowException(f"{self.module} ended with {code}: {last}")
            return json.loads(result.read_text())

    def _run(self, argv: list[str]) -> tuple[int, str]:
        """Exit status and last line; whatever ends the task ends the child and what it has started."""
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
        """End the child's process group, where it is still there."""
        if self._child is not None and self._child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()


def environment() -> dict[str, str]:
    """A child's: Airflow's own settings are no business of another component."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW_", "_AIRFLOW_"))}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
