"""The training family of a pipeline's project.

A project's module is anyone's code: it may raise, end the process or never return. It is imported in a process of its own, so that
none of that reaches the engine. As a program: `python -m pipelines.engine.family PROJECT` prints the family.
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

from phaseflow import registry
from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.settings import ROOT

DEFAULT: Final = "tabular"
"""For a pipeline that is no project's."""
IMPORT_SECONDS: Final = 30.0
PREFIX: Final = "family: "
_FAMILY: Final = re.compile(rf"^{PREFIX}([a-z][a-z0-9_]*)$", re.MULTILINE)


class Families:
    """Families by pipeline; a project is imported again once its `project.py` changes."""

    def __init__(self, seconds: float = IMPORT_SECONDS) -> None:
        self._seconds = seconds
        self._cache: dict[tuple[str, int], str] = {}

    async def of(self, pipeline_name: str) -> str:
        """The family of the project of that name (with `_` for `-`), else `tabular`.

        Raises PlatformError where the project's module can't be imported within the time.
        """
        project = pipeline_name.replace("-", "_")
        if project not in registry.names():
            return DEFAULT
        key = project, _changed(project)
        if key not in self._cache:
            self._cache[key] = await _imported(project, self._seconds)
        return self._cache[key]


def _changed(project: str) -> int:
    """When the declaration was last written, in nanoseconds; 0 where its file is gone."""
    import projects  # noqa: PLC0415  # a namespace package: this imports no project

    for root in projects.__path__:
        with contextlib.suppress(FileNotFoundError):
            return (Path(root) / project / "project.py").stat().st_mtime_ns
    return 0


async def _imported(project: str, seconds: float) -> str:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pipelines.engine.family", project),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await child.communicate()
    except TimeoutError as error:
        raise PlatformError(
            f"projects/{project}/project.py was not imported within {seconds:g} s", fix="Let it only declare"
        ) from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
    families = _FAMILY.findall(output.decode(errors="replace"))
    if child.returncode == 0 and families:
        return str(families[-1])
    lines = errors.decode(errors="replace").strip().splitlines() or [f"it ended with {child.returncode}"]
    raise PlatformError(
        f"projects/{project}/project.py can't be imported: {lines[-1].removeprefix('error: ')[:500]}",
        fix="Correct the project's declaration, and start the run again",
    )


def main(project: str) -> int:
    """Print the family."""
    try:
        print(f"\n{PREFIX}{registry.get(project).family}", flush=True)
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
