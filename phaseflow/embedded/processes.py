"""The platform's processes on this machine: which ones belong to it, and their end."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Container
from pathlib import Path
from typing import Final

import psutil

MARK: Final = "PHASEFLOW_PROGRAM"
"""In the environment of every process that belongs to the platform, children of children too."""


def members(home: Path, names: Container[str] | None = None, *, sessions: bool = True) -> dict[psutil.Process, str]:
    """Every live process of the platform of this home and its program's name, also one whose parent died; of `names` alone where given.

    Without `sessions` those are left out that are in a session that a child of their own program leads. This process is left out.
    """
    processes = {}
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            environment = process.environ()
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or another user's
        name = environment.get(MARK)
        if name and environment.get("PHASEFLOW_HOME") == str(home) and (names is None or name in names):
            processes[process] = name
    if sessions:
        return processes
    names_by_pid = {process.pid: name for process, name in processes.items()}
    return {process: name for process, name in processes.items() if names_by_pid.get(_session(process.pid)) != name}


def _session(pid: int) -> int:
    """The process that leads its session; 0 where it is gone."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def end(
    home: Path, names: Container[str] | None = None, *, seconds: float = 5, sessions: bool = True
) -> tuple[int, list[psutil.Process]]:
    """End them, asking first and killing after `seconds`; gives how many there were, and those that survive.

    Members that start meanwhile are ended too.
    """
    ended: set[psutil.Process] = set()
    ask_until = time.monotonic() + seconds
    kill_until = ask_until + seconds
    while (left := members(home, names, sessions=sessions)) and time.monotonic() < kill_until:
        asking = time.monotonic() < ask_until
        for process in left:
            with contextlib.suppress(psutil.Error):
                if not asking:
                    process.kill()
                elif process not in ended:
                    process.terminate()
        ended |= left.keys()
        psutil.wait_procs(list(left), timeout=max(0.1, (ask_until if asking else kill_until) - time.monotonic()))
    return len(ended), list(left)
