"""`python -m pipelines.compile [--check | --print PROJECT]`: writes every project's pipeline to `pipelines/generated/<project>.yaml`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

from kfp import compiler

from phaseflow import registry
from phaseflow.contract import Project
from phaseflow.settings import ROOT
from pipelines.pipeline import pipeline

GENERATED: Final = ROOT / "pipelines" / "generated"


def compiled(project: Project) -> str:
    """The pipeline as KFP's YAML; the same project gives the same text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline(project), str(path))
        return path.read_text()


def stale(folder: Path = GENERATED) -> list[str]:
    """Projects whose committed pipeline is not what the contract gives, and files of no project."""
    wanted = {project.name: compiled(project) for project in registry.all_projects()}
    found = {path.stem: path.read_text() for path in folder.glob("*.yaml")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main(arguments: list[str]) -> int:
    """Write, or with `--check` compare, or with `--print` give one project's to who submits it."""
    if "--print" in arguments:
        print(compiled(registry.get(arguments[arguments.index("--print") + 1])), end="")
        return 0
    if "--check" in arguments:
        old = stale()
        if old:
            print(f"error: pipelines/generated is stale for {', '.join(old)}. Run `make generate`.", file=sys.stderr)
        return 1 if old else 0
    GENERATED.mkdir(exist_ok=True)
    for project in registry.all_projects():
        (GENERATED / f"{project.name}.yaml").write_text(compiled(project))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
