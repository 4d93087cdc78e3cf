"""Experiments mirrored to Weights & Biases, where `WANDB_PROJECT` says so; `WANDB_MODE=offline` keeps them in a folder.

MLflow stays the registry. Nothing is sent to anyone unless that variable is set.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping

from phaseflow.contract import Candidate, Project


@contextlib.contextmanager
def mirrored(project: Project, candidate: Candidate) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """A function that logs figures of one candidate's training: to Weights & Biases, or to nobody."""
    if not os.environ.get("WANDB_PROJECT"):
        yield lambda _: None
        return
    import wandb  # noqa: PLC0415  # a library of the family `language`, and slow to import

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
