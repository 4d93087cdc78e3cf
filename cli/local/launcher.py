"""Starts a program and ends the leftovers of a killed predecessor: `python -m cli.local.launcher ARGV...`.

The program's name is in the environment. A killed program can't end its children. They would keep its port and its
locks, and its successor could not start. With `--adopts` before ARGV, children in their own sessions stay, because the
successor finds them again.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from cli.local import processes
from cli.local.program import Program
from phaseflow.settings import Settings

MODULE: Final = "cli.local.launcher"
ADOPTS: Final = "--adopts"
STARTED: Final = "PHASEFLOW_PROGRAM_STARTED"
"""Environment variable of a program: the time when it replaced its launcher, in seconds since the epoch."""
SECONDS: Final = 2.0
"""Time for leftover processes to end before they are killed."""


def command(settings: Settings, program: Program) -> list[str]:
    """Command that starts the program through this launcher."""
    adopts = [ADOPTS] if program.adopts else []
    return [str(settings.python("command")), "-m", MODULE, *adopts, *program.argv]


def replace(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """End every other process of the program that `environment` names, then replace this process with `argv`."""
    adopts = argv[0] == ADOPTS
    argv = argv[adopts:]
    name, home = environment[processes.MARK], Path(environment["PHASEFLOW_HOME"])
    count, survivors = processes.end(home, {name}, seconds=SECONDS, sessions=not adopts)
    if count:
        print(f"ended {count} processes that a killed {name} had left", file=sys.stderr)
    if survivors:
        print(
            f"leftover processes that survive: {', '.join(str(process.pid) for process in survivors)}", file=sys.stderr
        )
    os.execvpe(argv[0], list(argv), {**environment, STARTED: str(time.time())})  # noqa: S606  # no shell is needed


def started_at(pid: int, name: str) -> float | None:
    """When the process of the program `name` replaced its launcher, in seconds since the epoch.

    None if it has not replaced it yet, or has ended.
    """
    try:
        environment = psutil.Process(pid).environ()
    except psutil.Error:
        return None
    return float(environment[STARTED]) if environment.get(processes.MARK) == name and STARTED in environment else None


if __name__ == "__main__":
    replace(sys.argv[1:], os.environ)
