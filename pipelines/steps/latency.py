"""The latency of a model in onnxruntime."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
import polars as pl

from phaseflow.contract import Project
from phaseflow.toolkit import graph

LATENCY_CALLS: Final = 200
MIN_CALLS: Final = 20
LATENCY_SECONDS: Final = 10.0
"""Time after which `MIN_CALLS` calls suffice: generating a text takes about a second."""


def latency_ms(project: Project, model: graph.Session, rows: pl.DataFrame) -> float:
    """Return the 99th percentile of the latency of one row in onnxruntime, in ms."""
    feeds = graph.feed(rows.head(1), project.schema)
    graph.run(model, feeds)
    times: list[float] = []
    until = time.perf_counter() + LATENCY_SECONDS
    while len(times) < LATENCY_CALLS and (len(times) < MIN_CALLS or time.perf_counter() < until):
        begin = time.perf_counter()
        graph.run(model, feeds)
        times.append((time.perf_counter() - begin) * 1000)
    return float(np.quantile(times, 0.99))
