"""Finds and ends the platform's processes on this machine."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Container
from pathlib import Path
from typing import Final

import psutil

MARK: Final = "PHASEFLOW_PROGRAM"
"""Environment variable of every process of the platform, including all descendants. Its value is the program's name."""


def members(home: Path, names: Container[str] | None = None, *, sessions: bool = True) -> dict[psutil.Process, str]:
    """Live processes of this home's platform with their programs' names, including orphans; only of the programs
    `names` if set.

    If `sessions` is false, processes are excluded whose session is led by a child of their own program. This process is
    always excluded.
    """
    processes = {}
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            environment = process.environ()
        except (psutil.Error, OSError):
            continue  # it has ended, or belongs to another user
        name = environment.get(MARK)
        if name and environment.get("PHASEFLOW_HOME") == str(home) and (names is None or name in names):
            processes[process] = name
    if sessions:
        return processes
    names_by_pid = {process.pid: name for process, name in processes.items()}
    return {process: name for process, name in processes.items() if names_by_pid.get(_session(process.pid)) != name}


def _session(pid: int) -> int:
    """PID of the process that leads the session of `pid`; 0 if the process has ended."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def end(
    home: Path, names: Container[str] | None = None, *, seconds: float = 5, sessions: bool = True
) -> tuple[int, list[psutil.Process]]:
    """Terminate the members, and kill them after `seconds`; return their number, and those that survive.

    Members that start in the meantime are ended too.
    """
    ended: set[psutil.Process] = set()
    terminate_until = time.monotonic() + seconds
    kill_until = terminate_until + seconds
    while (remaining := members(home, names, sessions=sessions)) and time.monotonic() < kill_until:
        terminating = time.monotonic() < terminate_until
        for process in remaining:
            with contextlib.suppress(psutil.Error):
                if not terminating:
                    process.kill()
                elif process not in ended:
                    process.terminate()
        ended |= remaining.keys()
        psutil.wait_procs(
            list(remaining), timeout=max(0.1, (terminate_until if terminating else kill_until) - time.monotonic())
        )
    return len(ended), list(remaining)
