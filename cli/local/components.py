"""Calls a component in its own interpreter, because this one lacks the component's libraries."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.local import supervisor
from phaseflow import environments
from phaseflow.errors import PlatformError, from_output
from phaseflow.settings import ROOT, Settings


class ComponentError(PlatformError):
    """A component failed. Problem and fix are those that it reported, or the last line of its output."""

    def __init__(self, module: str, output: str, code: int) -> None:
        error = from_output(output)
        last = (output.strip().splitlines() or ["it printed nothing"])[-1]
        problem = error.problem if error else f"{module} exited with {code}: {last}"
        super().__init__(problem, fix=error.fix if error else "Read the log above, then run it again")
        self.code = code


def call(settings: Settings, group: str, module: str, *arguments: str, result: Path | None = None) -> dict[str, Any]:
    """Run `python -m MODULE ARGUMENTS` in the environment `group`; return the JSON object in the file `result`, or in
    its output.

    Raises ComponentError with the error that it reported, or else its last line, if the exit status is not 0.
    """
    response: dict[str, Any] = call_json(settings, group, module, *arguments, result=result)
    return response


def call_json(settings: Settings, group: str, module: str, *arguments: str, result: Path | None = None) -> Any:
    """Like `call`, for a module that returns any JSON value."""
    completed = subprocess.run(
        [
            environments.interpreter(settings, group),
            "-m",
            module,
            *arguments,
            *(["--result", str(result)] if result else []),
        ],
        cwd=ROOT,
        env=os.environ | supervisor.environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if completed.returncode:
        raise ComponentError(module, completed.stderr, completed.returncode)
    return json.loads(result.read_text() if result else completed.stdout)


@contextmanager
def traffic(settings: Settings, environment: str, project: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `cli.traffic` in the project's environment, with JSON lines on stdout, and stop it after the block."""
    process = subprocess.Popen(
        [environments.interpreter(settings, environment), "-m", "cli.traffic", project, *arguments],
        cwd=ROOT,
        env=os.environ | supervisor.environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate()
