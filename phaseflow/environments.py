"""A training family's environment, made when a project of the family first needs it: nobody who doesn't downloads torch."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path
from typing import Final

from phaseflow.errors import PermanentError, PlatformError
from phaseflow.settings import ROOT, Settings

MAKER: Final = ROOT / "bin" / "environment"


def interpreter(settings: Settings, group: str) -> Path:
    """The interpreter of the environment `group`, which is made from the lock where a checkout lacks it.

    Two processes that ask at once make it once. Raises PlatformError where it can't be made, as without a network, and
    PermanentError in an image, which holds its own family's environment alone.
    """
    python, made = settings.python(group), settings.venvs / group / ".ready"
    here = settings.venvs == ROOT / ".venvs" and MAKER.exists()
    if made.exists() or (python.exists() and not here):
        return python
    if not here:
        raise PermanentError(
            f"{python} does not exist",
            fix=f"Make it by `make .venvs/{group}/.ready`, or on Kubernetes use the image of the family {group}",
        )
    settings.venvs.mkdir(exist_ok=True)
    with (settings.venvs / f".{group}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            done = subprocess.run([MAKER, group], cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                said = done.stderr.strip().splitlines() or ["it printed nothing"]
                raise PlatformError(
                    f"The environment {group} can't be made: {said[-1][:300]}",
                    fix=f"Read what `bin/environment {group}` says",
                )
            made.touch()
    return python
