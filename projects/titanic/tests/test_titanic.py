"""The average of three candidates."""

from __future__ import annotations

import numpy as np

from phaseflow import discovery
from phaseflow.toolkit import graph, source
from phaseflow.toolkit.fit import fit
from projects.titanic import data

PROJECT = discovery.get("titanic")
PARTS = next(candidate for candidate in PROJECT.candidates if candidate.name == "average").params["of"]


def test_the_average_is_the_mean_of_its_candidates() -> None:
    loaded = source.Loaded(frame=source.read_csv(data.sample(PROJECT.seed)), origin="sample", sha256="")
    rows = source.rows(loaded, PROJECT)
    outputs_by_candidate = {
        candidate.name: graph.run(
            fit(rows.head(600), PROJECT, candidate).onnx, graph.feed(rows.tail(200), PROJECT.schema)
        )
        for candidate in PROJECT.candidates
        if candidate.name in {"average", *PARTS}
    }
    probabilities = {name: outputs["probabilities"][:, 1] for name, outputs in outputs_by_candidate.items()}
    # In the average, the linear model also scales columns of 0 and 1, so it differs slightly from the candidate.
    mean = np.mean([probabilities[name] for name in PARTS], axis=0)
    assert np.abs(probabilities["average"] - mean).mean() < 0.02
    assert all(np.abs(probabilities[name] - mean).mean() > 0.03 for name in PARTS)
