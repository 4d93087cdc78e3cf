"""Holds the service's answers against the training side's on every row of a project's holdout.

Usage, in the project's family, while the platform is up: python bench/parity.py PROJECT
Prints the rows and the largest absolute difference of a probability or value; ends with 1 where it is above 1e-5.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import httpx

from phaseflow import answers, registry
from phaseflow.settings import from_environment
from phaseflow.toolkit import client, graph
from pipelines.steps import champion, data

AT_ONCE = 200


def main(name: str) -> int:
    """Compare."""
    settings, project = from_environment(), registry.get(name)
    served = httpx.get(f"{settings.serving_url}/{name}/model", timeout=10).json()
    rows = data.split(project, served["snapshot"], "holdout")
    found = champion.fetch(project)
    if found is None or found.version != served["version"]:
        print(f"the service serves version {served['version']}, MLflow's champion is {found and found.version}")
        return 1
    said = graph.run(found.onnx, graph.feed(rows, project.schema))
    target = project.schema.target
    ours = said["probabilities"].tolist() if found.classes else answers.values(said, target, ())
    name_of, *_ = answers.outputs(target, ())
    requests = client.sent(rows, project.schema)
    theirs = []
    for begin in range(0, len(requests), AT_ONCE):
        answer = httpx.post(
            f"{settings.serving_url}/{name}/predict", json={"rows": requests[begin : begin + AT_ONCE]}, timeout=30
        )
        answer.raise_for_status()
        theirs += [
            [one["probabilities"][name] for name in found.classes] if found.classes else one[name_of]
            for one in answer.json()["predictions"]
        ]
    worst = max(_gap(mine, other) for mine, other in zip(ours, theirs, strict=True))
    print(f"{name}: {rows.height} rows, largest difference {worst:.3g}")
    return 0 if worst <= 1e-5 else 1


def _gap(mine: Any, theirs: Any) -> float:
    """The largest difference of two answers, part by part; infinite where they are not of the same parts."""
    match mine, theirs:
        case dict(), dict():
            return _gap(list(mine.values()), list(theirs.values())) if mine.keys() == theirs.keys() else math.inf
        case list(), list():
            pairs = zip(mine, theirs, strict=False)
            return max((_gap(*pair) for pair in pairs), default=0.0) if len(mine) == len(theirs) else math.inf
        case str(), str():
            return 0.0 if mine == theirs else math.inf
        case _:
            return abs(float(mine) - float(theirs))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
