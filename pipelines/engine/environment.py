"""The training environment of a pipeline's project.

A project's module is arbitrary code: it may raise, exit or never return. It is therefore imported in a separate
process. `python -m pipelines.engine.environment PROJECT` prints the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import Final

from phaseflow import discovery, errors, log
from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.settings import ROOT, from_environment

DEFAULT: Final = "tabular"
"""Environment of pipelines that belong to no project."""
IMPORT_SECONDS: Final = 30.0
PREFIX: Final = "environment: "
_ENVIRONMENT: Final = re.compile(rf"^{PREFIX}([a-z][a-z0-9_]*)$", re.MULTILINE)


class Environments:
    """Cache of environments by pipeline. A project is imported again if its `project.py` changes."""

    def __init__(self, seconds: float = IMPORT_SECONDS) -> None:
        self._seconds = seconds
        self._cache: dict[tuple[str, int], str] = {}

    async def of(self, pipeline_name: str) -> str:
        """Return the environment of the project with that name (`_` for `-`), else `tabular`.

        Raises PlatformError if the project's module can't be imported in time.
        """
        project = pipeline_name.replace("-", "_")
        if project not in discovery.names():
            return DEFAULT
        key = project, _modified_ns(project)
        if key not in self._cache:
            self._cache[key] = await _import_environment(project, self._seconds)
        return self._cache[key]


def _modified_ns(project: str) -> int:
    """Return the modification time of the declaration in nanoseconds; 0 if the file does not exist."""
    import projects  # noqa: PLC0415  # a namespace package: this imports no project

    for root in projects.__path__:
        with contextlib.suppress(FileNotFoundError):
            return (Path(root) / project / "project.py").stat().st_mtime_ns
    return 0


async def _import_environment(project: str, seconds: float) -> str:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pipelines.engine.environment", project),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            output, stderr = await child.communicate()
    except TimeoutError as error:
        raise PlatformError(
            f"projects/{project}/project.py was not imported within {seconds:g} s", fix="Let it only declare"
        ) from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
    environments = _ENVIRONMENT.findall(output.decode(errors="replace"))
    if child.returncode == 0 and environments:
        return str(environments[-1])
    text = stderr.decode(errors="replace")
    lines = text.strip().splitlines() or [f"it exited with {child.returncode}"]
    reason = str(errors.from_output(text) or lines[-1])
    raise PlatformError(
        f"projects/{project}/project.py can't be imported: {reason[:500]}",
        fix="Correct the project's declaration, and start the run again",
    )


def main(project: str) -> int:
    """Print the project's environment."""
    log.configure("pipelines.environment", from_environment().log_format)
    try:
        print(f"\n{PREFIX}{discovery.get(project).environment}", flush=True)
    except PhaseflowError as error:
        return errors.report(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
