"""Mirrors experiments to Weights & Biases if `WANDB_PROJECT` is set; `WANDB_MODE=offline` keeps them in a folder.

MLflow remains the registry. Nothing is sent unless `WANDB_PROJECT` is set.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping

from phaseflow.contract import Candidate, Project


@contextlib.contextmanager
def mirrored(project: Project, candidate: Candidate) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """A function that logs metrics of a candidate's training to Weights & Biases, or does nothing without
    `WANDB_PROJECT`.
    """
    if not os.environ.get("WANDB_PROJECT"):
        yield lambda _: None
        return
    import wandb  # noqa: PLC0415  # only the environment `language` has it, and importing it is slow

    run = wandb.init(
        project=os.environ["WANDB_PROJECT"],
        name=f"{project.name} {candidate.name}",
        group=project.name,
        config=dict(candidate.params),
        settings=wandb.Settings(silent=True),
    )
    try:
        yield lambda figures: run.log(dict(figures))
    finally:
        run.finish()
