"""Training of a candidate, for the pipeline and tests."""

from __future__ import annotations

import polars as pl
from threadpoolctl import threadpool_limits

from phaseflow import discovery
from phaseflow.contract import Candidate, Project
from phaseflow.toolkit.model import Trained


def fit(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Train one candidate on rows [N], with as many threads as the project has CPU cores.

    By default numerical libraries start one thread per core of the machine; with fewer cores these wait for each other.
    """
    train = discovery.load(project.train)  # its imports create the thread pools, which are limited below
    with threadpool_limits(max(1, round(project.resources.cpu))):
        trained: Trained = train(rows, project, candidate)
    return trained
