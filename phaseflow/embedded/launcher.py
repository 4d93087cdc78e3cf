"""Starts a program in place of a killed predecessor: `python -m phaseflow.embedded.launcher ARGV...`, with its name in the environment.

A program that is killed can't end its own children. They keep its port, its locks and its work, and its successor could not start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from phaseflow.embedded import processes
from phaseflow.settings import Settings

SECONDS: Final = 2.0
"""That what is left may take to end by itself."""


def command(settings: Settings, argv: Sequence[str]) -> list[str]:
    """`argv` by this launcher."""
    return [str(settings.python("command")), "-m", "phaseflow.embedded.launcher", *argv]


def replace(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """End every other process of the program that `environment` names, then become `argv`."""
    name, home = environment[processes.MARK], Path(environment["PHASEFLOW_HOME"])
    count, survivors = processes.end(home, {name}, seconds=SECONDS)
    if count:
        print(f"ended {count} processes that a killed {name} had left", file=sys.stderr)
    if survivors:
        print(f"left over and alive: {', '.join(str(process.pid) for process in survivors)}", file=sys.stderr)
    os.execvpe(argv[0], list(argv), environment)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    replace(sys.argv[1:], os.environ)
