"""Training of a candidate, for the pipeline and tests."""

from __future__ import annotations

import functools
import sys

import polars as pl
from threadpoolctl import ThreadpoolController

from phaseflow import discovery
from phaseflow.contract import Candidate, Project
from phaseflow.toolkit.model import Trained


def fit(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Train one candidate on rows [N], with as many threads as the project has CPU cores.

    By default numerical libraries start one thread per core of the machine; with fewer cores these wait for each other.
    """
    train = discovery.load(project.train)  # its imports create the thread pools, which are limited below
    with _thread_pools(len(sys.modules)).limit(limits=max(1, round(project.resources.cpu))):
        trained: Trained = train(rows, project, candidate)
    return trained


@functools.lru_cache(maxsize=1)
def _thread_pools(modules: int) -> ThreadpoolController:  # noqa: ARG001  # the key: an import may load a library
    """The thread pools of the loaded libraries. The search reads the process's memory map, so it follows only imports."""
    return ThreadpoolController()
