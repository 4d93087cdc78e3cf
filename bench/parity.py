"""Holds the service's answers against the training side's on every row of a project's holdout.

Usage, in the project's family, while the platform is up: python bench/parity.py PROJECT
Prints the rows and the largest absolute difference of a probability or value; ends with 1 where it is above 1e-5.
"""

from __future__ import annotations

import sys

import httpx
import numpy as np

from phaseflow import registry
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
    ours = said["probabilities"] if found.classes else said["value"].reshape(-1, 1)
    requests = client.sent(rows, project.schema)
    theirs = []
    for begin in range(0, len(requests), AT_ONCE):
        answer = httpx.post(
            f"{settings.serving_url}/{name}/predict", json={"rows": requests[begin : begin + AT_ONCE]}, timeout=30
        )
        answer.raise_for_status()
        theirs += [
            [one["probabilities"][name] for name in found.classes] if found.classes else [one["value"]]
            for one in answer.json()["predictions"]
        ]
    worst = float(np.abs(ours.astype(np.float64) - np.array(theirs)).max())
    print(f"{name}: {rows.height} rows, largest difference {worst:.3g}")
    return 0 if worst <= 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
