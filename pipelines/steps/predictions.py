"""What a served file predicts of rows, beside the truth: what selection and judgement both measure."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from phaseflow import answers, registry
from phaseflow.contract import Project
from phaseflow.toolkit import graph
from pipelines.steps import metrics
from pipelines.steps.metrics import Answers, Array


def ask(project: Project, model: bytes | graph.Session, classes: tuple[str, ...], rows: pl.DataFrame) -> Answers:
    """What the served file says of rows [N]."""
    said, target = graph.run(model, graph.feed(rows, project.schema)), project.schema.target
    if target is not None and answers.structured(target):
        truths = [answers.read(text, target) for text in rows[target.name]]
        return Answers(
            truth=metrics.objects(truths),
            predicted=metrics.objects(answers.values(said, target, classes)),
            classes=classes,
            said=said,
            rows=rows,
        )
    # What the project's own figures are made of; ours need neither.
    kept: dict[str, Any] = {"said": said, "rows": rows} if project.evaluate else {}
    truth: Array = np.array([])
    if target is not None:
        truth = rows[target.name].cast(pl.String if classes else pl.Float64).to_numpy()
    if classes:
        return Answers(
            truth=truth.astype(str),
            predicted=said["label"].astype(str),
            probabilities=said["probabilities"].astype(np.float64),
            classes=classes,
            **kept,
        )
    return Answers(truth=truth, predicted=said["value"].astype(np.float64), **kept)


def played(project: Project, model: graph.Session, said: Answers, rows: pl.DataFrame) -> Answers:
    """What is judged: the games that the model plays in a world like that of rows [N], else what it said of the rows."""
    if not project.play:
        return said

    def asked(seen: pl.DataFrame) -> dict[str, Array]:
        return graph.run(model, graph.feed(seen, project.schema))

    came, games = registry.load(project.play)(asked, rows, project)
    nothing = np.array([])
    return Answers(truth=nothing, predicted=np.arange(games.height), said=came, rows=games)
