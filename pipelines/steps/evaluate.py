"""All candidates and the champion on the same holdout: figures, intervals, slices, latency and size."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from phaseflow import answers, registry
from phaseflow.contract import Project
from phaseflow.toolkit import graph
from phaseflow.toolkit.scalars import answered, words_of_answers
from pipelines.steps import champion as champions
from pipelines.steps import data, gate, metrics
from pipelines.steps.metrics import Answers, Array

LATENCY_CALLS: Final = 200
LEAST_CALLS: Final = 20
LATENCY_SECONDS: Final = 10.0
"""After it `LEAST_CALLS` are enough: a text takes a second to write."""


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


def latency_ms(project: Project, model: graph.Session, rows: pl.DataFrame) -> float:
    """99th percentile of one row through onnxruntime, in ms."""
    feeds = graph.feed(rows.head(1), project.schema)
    graph.run(model, feeds)
    times: list[float] = []
    until = time.perf_counter() + LATENCY_SECONDS
    while len(times) < LATENCY_CALLS and (len(times) < LEAST_CALLS or time.perf_counter() < until):
        begin = time.perf_counter()
        graph.run(model, feeds)
        times.append((time.perf_counter() - begin) * 1000)
    return float(np.quantile(times, 0.99))


def slices(project: Project, said: Answers, rows: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """The first metric on each value of each of the gate's slices."""
    found: dict[str, dict[str, Any]] = {}
    for part in project.gate.slices:
        values = rows[part.column].cast(pl.String).fill_null("(missing)").to_numpy().astype(str)
        found[part.column] = {
            value: {
                "rows": int((values == value).sum()),
                "value": metrics.figure(project, project.primary, said.take(np.flatnonzero(values == value))),
            }
            for value in sorted(set(values))
        }
    return found


def losses(project: Project, said: Answers) -> dict[str, float]:
    """The mean of each live loss on the holdout, where answers are no scalars: what the live one is compared with."""
    target = project.schema.target
    if target is None or not answers.structured(target) or not len(said.truth):
        return {}
    found = [answers.losses(mine, true, target) for mine, true in zip(said.predicted, said.truth, strict=True)]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def evaluate(project_name: str, snapshot: str, folders: Sequence[Path]) -> dict[str, Any]:
    """Figures of the models in `folders` and of the champion, as one dictionary of plain values."""
    project = registry.get(project_name)
    rows = data.split(project, snapshot, "holdout")
    samples: list[Array] = []
    found: dict[str, Any] = {"snapshot": snapshot, "rows": rows.height, "candidates": {}, "champion": None}
    draws: dict[str, Array] = {}
    everyone: dict[str, Answers] = {}
    answered_as: dict[str, Answers] = {}
    for folder in folders:
        about = json.loads((folder / "trained.json").read_text())
        onnx = (folder / "model.onnx").read_bytes()
        model = graph.session(onnx)
        told = ask(project, model, tuple(about["classes"]), rows)
        said = played(project, model, told, rows)
        samples = samples or metrics.resamples(len(said.predicted), project.seed)
        name = about["candidate"]
        everyone[name] = said
        answered_as[name] = told
        draws[name] = metrics.bootstrap(project, [project.primary], said, samples)[project.primary.name]
        found["candidates"][name] = about | {
            "metrics": metrics.figures(project, said),
            "intervals": {project.primary.name: metrics.interval(draws[name])},
            "slices": slices(project, said, rows),
            "losses": losses(project, told),
            "latency_ms": latency_ms(project, model, rows),
            "size_mb": len(onnx) / 1e6,
        }
    best = gate.winner(project, found["candidates"])
    found["winner"] = best
    found["candidates"][best]["intervals"] |= {
        name: metrics.interval(values)
        for name, values in metrics.bootstrap(project, project.metrics[1:], everyone[best], samples).items()
    }
    found["curves"] = curves(project, answered_as[best])
    present = champions.fetch(project)
    if present is not None:
        model = graph.session(present.onnx)
        said = played(project, model, ask(project, model, present.classes, rows), rows)
        gains = draws[best] - metrics.bootstrap(project, [project.primary], said, samples)[project.primary.name]
        gains = gains if project.primary.direction == "higher" else -gains
        found["champion"] = {
            "version": present.version,
            "candidate": present.candidate,
            "metrics": metrics.figures(project, said),
            "slices": slices(project, said, rows),
            "gain_interval": metrics.interval(gains),
            "share_of_resamples_better": float(np.nanmean(gains > 0)) if not np.isnan(gains).all() else None,
        }
    return found


def curves(project: Project, said: Answers) -> dict[str, Any]:
    """What plots need of the winner: confusion and ROC for classes, truth against answer for numbers, sizes of segments.

    Of answers that are no scalars the figures by which they are watched, beside the truth's.
    """
    target = project.schema.target
    if target is not None and answers.structured(target):
        known = words_of_answers(target, list(said.truth))
        told, true = (
            answered(target, list(values), known).to_dict(as_series=False) for values in (said.predicted, said.truth)
        )
        return {"figures": {name: {"predicted": told[name], "truth": true[name]} for name in told}}
    if not len(said.truth):
        return {"sizes": {name: int((said.predicted == name).sum()) for name in said.classes}}
    if not said.classes:
        return {"truth": said.truth.tolist(), "predicted": said.predicted.tolist()}
    from sklearn.metrics import confusion_matrix, roc_curve  # noqa: PLC0415  # numbers need neither

    confusion = confusion_matrix(said.truth, said.predicted, labels=list(said.classes)).tolist()
    found: dict[str, Any] = {"classes": list(said.classes), "confusion": confusion}
    if len(said.classes) == 2 and len(set(said.truth)) == 2 and said.probabilities is not None:
        fpr, tpr, thresholds = roc_curve(said.truth == said.classes[-1], said.probabilities[:, -1])
        thresholds = np.minimum(thresholds, 1.0)  # scikit-learn starts at infinity, which JSON can't hold
        found["roc"] = {"fpr": fpr.tolist(), "tpr": tpr.tolist(), "thresholds": thresholds.tolist()}
        found["scores"] = {
            "truth": (said.truth == said.classes[-1]).tolist(),
            "score": said.probabilities[:, -1].tolist(),
        }
    return found
