"""`python -m pipelines.compile [--check | --print PROJECT]`: compile each project's pipeline.

The pipelines are written to `pipelines/generated/<project>.yaml`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

from kfp import compiler

from phaseflow import discovery, generated, log
from phaseflow.contract import Project
from phaseflow.log import logger
from phaseflow.settings import ROOT, from_environment
from pipelines.pipeline import pipeline

GENERATED: Final = ROOT / "pipelines" / "generated"


def to_yaml(project: Project) -> str:
    """Compile the pipeline to KFP's YAML. The output is deterministic."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline(project), str(path))
        return path.read_text()


def files() -> dict[str, str]:
    """Return the content of each committed pipeline, by its name in `GENERATED`."""
    return {f"{project.name}.yaml": to_yaml(project) for project in discovery.all_projects()}


def main(arguments: list[str]) -> int:
    """Write the pipelines. `--check` only compares them; `--print` prints the pipeline of one project."""
    log.configure("pipelines.compile", from_environment().log_format)
    if "--print" in arguments:
        print(to_yaml(discovery.get(arguments[arguments.index("--print") + 1])), end="")
        return 0
    expected = files()
    stale = generated.stale(GENERATED, expected)
    if "--check" in arguments:
        if stale:
            logger.error("pipelines/generated is stale: %s. Run `make generate`.", ", ".join(stale))
        return 1 if stale else 0
    GENERATED.mkdir(exist_ok=True)
    for name in stale:
        if name in expected:
            (GENERATED / name).write_text(expected[name])
        else:
            (GENERATED / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
