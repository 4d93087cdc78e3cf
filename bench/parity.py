"""Compare the predictions of the service with those of the training code on every row of a project's holdout.

Usage, in the project's environment, on a running platform: python bench/parity.py PROJECT It prints the number of rows
and the largest absolute difference of a probability or value, and exits with status 1 if that is above 1e-5.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import httpx

from phaseflow import discovery, prediction_types
from phaseflow.settings import from_environment
from phaseflow.toolkit import client, graph
from pipelines.steps import champion, data

AT_ONCE = 200


def main(name: str) -> int:
    """Compare the predictions and return the exit status."""
    settings, project = from_environment(), discovery.get(name)
    serving_model = httpx.get(f"{settings.serving_url}/{name}/model", timeout=10).json()
    rows = data.split(project, serving_model["snapshot"], "holdout")
    registered = champion.fetch(project)
    if registered is None or registered.version != serving_model["version"]:
        print(
            f"the service serves version {serving_model['version']}, MLflow's champion is {registered and registered.version}"
        )
        return 1
    outputs = graph.run(registered.onnx, graph.feed(rows, project.schema))
    target = project.schema.target
    expected = outputs["probabilities"].tolist() if registered.classes else prediction_types.values(outputs, target, ())
    output_name, *_ = prediction_types.output_names(target, ())
    requests = client.sent(rows, project.schema)
    actual = []
    for begin in range(0, len(requests), AT_ONCE):
        response = httpx.post(
            f"{settings.serving_url}/{name}/predict", json={"rows": requests[begin : begin + AT_ONCE]}, timeout=30
        )
        response.raise_for_status()
        actual += [
            [prediction["probabilities"][name] for name in registered.classes]
            if registered.classes
            else prediction[output_name]
            for prediction in response.json()["predictions"]
        ]
    largest_gap = max(_gap(expected_row, actual_row) for expected_row, actual_row in zip(expected, actual, strict=True))
    print(f"{name}: {rows.height} rows, largest difference {largest_gap:.3g}")
    return 0 if largest_gap <= 1e-5 else 1


def _gap(expected: Any, actual: Any) -> float:
    """The largest difference between two predictions, part by part. Infinite if their structure differs."""
    match expected, actual:
        case dict(), dict():
            return (
                _gap(list(expected.values()), list(actual.values())) if expected.keys() == actual.keys() else math.inf
            )
        case list(), list():
            pairs = zip(expected, actual, strict=False)
            return max((_gap(*pair) for pair in pairs), default=0.0) if len(expected) == len(actual) else math.inf
        case str(), str():
            return 0.0 if expected == actual else math.inf
        case _:
            return abs(float(expected) - float(actual))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
