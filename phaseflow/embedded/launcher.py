"""Starts a program in place of a killed predecessor: `python -m phaseflow.embedded.launcher ARGV...`, with its name in the environment.

A program that is killed can't end its own children. They keep its port, its locks and its work, and its successor could not start. With
`--adopts` before ARGV children in sessions of their own stay: the successor finds them again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from phaseflow.embedded import processes
from phaseflow.embedded.program import Program
from phaseflow.settings import Settings

ADOPTS: Final = "--adopts"
SECONDS: Final = 2.0
"""That what is left may take to end by itself."""


def command(settings: Settings, program: Program) -> list[str]:
    """The program's command by this launcher."""
    adopts = [ADOPTS] if program.adopts else []
    return [str(settings.python("command")), "-m", "phaseflow.embedded.launcher", *adopts, *program.argv]


def replace(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """End every other process of the program that `environment` names, then become `argv`."""
    adopts = argv[0] == ADOPTS
    argv = argv[adopts:]
    name, home = environment[processes.MARK], Path(environment["PHASEFLOW_HOME"])
    count, survivors = processes.end(home, {name}, seconds=SECONDS, sessions=not adopts)
    if count:
        print(f"ended {count} processes that a killed {name} had left", file=sys.stderr)
    if survivors:
        print(f"left over and alive: {', '.join(str(process.pid) for process in survivors)}", file=sys.stderr)
    os.execvpe(argv[0], list(argv), environment)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    replace(sys.argv[1:], os.environ)
