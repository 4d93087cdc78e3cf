"""How every candidate is trained, in the pipeline and in tests."""

from __future__ import annotations

import polars as pl
from threadpoolctl import threadpool_limits

from phaseflow import registry
from phaseflow.contract import Candidate, Project
from phaseflow.toolkit.model import Trained


def fit(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """One candidate on rows [N], with as many threads as the project may use cores.

    Numerical libraries start one for each core of the machine, and on a share of it they wait for each other.
    """
    train = registry.load(project.train)  # what it imports brings its thread pools
    with threadpool_limits(max(1, round(project.resources.cpu))):
        trained: Trained = train(rows, project, candidate)
    return trained
