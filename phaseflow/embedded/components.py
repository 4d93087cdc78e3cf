"""Calls a component in its own interpreter: this one has none of their libraries."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phaseflow import environments
from phaseflow.embedded import supervisor
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT, Settings


class ComponentError(PlatformError):
    """A component refused or failed; what it said is the problem and the fix."""

    def __init__(self, said: str, code: int) -> None:
        text = said.removeprefix("error: ").strip()
        problem, _, fix = text.rstrip().rpartition(". ")
        super().__init__(problem or text, fix=fix or "Read its log above")
        self.code = code


def call(settings: Settings, group: str, module: str, *arguments: str, result: Path | None = None) -> dict[str, Any]:
    """`python -m MODULE ARGUMENTS` in the environment `group`; gives the JSON in the file `result`, else what it prints.

    Raises ComponentError with its stderr's `error:`, else the last line, when it ends with another code than 0.
    """
    response: dict[str, Any] = answer(settings, group, module, *arguments, result=result)
    return response


def answer(settings: Settings, group: str, module: str, *arguments: str, result: Path | None = None) -> Any:
    """As `call`, for a module whose answer is another JSON than an object."""
    done = subprocess.run(
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
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"{module} ended with {done.returncode}. Run it again"]
        first = max((at for at, line in enumerate(lines) if line.startswith("error:")), default=len(lines) - 1)
        raise ComponentError("\n".join(lines[first:]), done.returncode)
    return json.loads(result.read_text() if result else done.stdout)


@contextmanager
def traffic(settings: Settings, family: str, project: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`phaseflow.traffic` in the project's family, its JSON lines on stdout; told to stop at the end."""
    process = subprocess.Popen(
        [environments.interpreter(settings, family), "-m", "phaseflow.traffic", project, *arguments],
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
