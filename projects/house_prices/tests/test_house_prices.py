"""The average of two candidates."""

from __future__ import annotations

import numpy as np
import pytest

from phaseflow import discovery
from phaseflow.toolkit import graph, source
from phaseflow.toolkit.fit import fit
from projects.house_prices import data

PROJECT = discovery.get("house_prices")


@pytest.fixture(scope="module")
def errors() -> dict[str, float]:
    """The root mean squared error of the logarithm of each candidate, on held-out sales."""
    loaded = source.Loaded(frame=source.read_csv(data.sample(PROJECT.seed)), origin="sample", sha256="")
    rows = source.rows(loaded, PROJECT)
    log_prices = np.log(rows["sale_price"].tail(360).to_numpy())
    rmsle = {}
    for candidate in PROJECT.candidates:
        if candidate.name in {"linear_regression", "ridge", "gradient_boosting", "average"}:
            content = fit(rows.head(1100), PROJECT, candidate).onnx
            value = graph.run(content, graph.feed(rows.tail(360), PROJECT.schema))["value"]
            rmsle[candidate.name] = float(np.sqrt(((np.log(value) - log_prices) ** 2).mean()))
    return rmsle


def test_the_average_has_a_smaller_error_than_its_candidates(errors: dict[str, float]) -> None:
    assert errors["average"] < min(errors["ridge"], errors["gradient_boosting"], errors["linear_regression"])
