"""Training environments, created on first use, so that only projects that need torch download it."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path
from typing import Final

from phaseflow.errors import PermanentError, PlatformError
from phaseflow.settings import ROOT, Settings

SCRIPT: Final = ROOT / "bin" / "environment"


def interpreter(settings: Settings, group: str) -> Path:
    """The path of the Python interpreter of the environment `group`. In a checkout, a missing environment is created.

    Concurrent processes create it once. Raises PlatformError if the creation fails, for example without a network, and
    PermanentError in an image, which contains only its own training environment.
    """
    python, marker = settings.python(group), settings.venvs / group / ".ready"
    checkout = settings.venvs == ROOT / ".venvs" and SCRIPT.exists()
    if marker.exists() or (python.exists() and not checkout):
        return python
    if not checkout:
        raise PermanentError(
            f"{python} does not exist",
            fix=f"Make it by `make .venvs/{group}/.ready`, or on Kubernetes use the image of the environment {group}",
        )
    settings.venvs.mkdir(exist_ok=True)
    with (settings.venvs / f".{group}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists():
            completed = subprocess.run([SCRIPT, group], cwd=ROOT, capture_output=True, text=True, check=False)
            if completed.returncode:
                lines = completed.stderr.strip().splitlines() or ["it printed nothing"]
                raise PlatformError(
                    f"The environment {group} can't be created: {lines[-1][:300]}",
                    fix=f"Run `bin/environment {group}` and read its output",
                )
            marker.touch()
    return python
