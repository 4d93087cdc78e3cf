"""All candidates and the champion on the same holdout: figures, intervals, slices, latency and size."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from phaseflow import registry
from phaseflow.contract import Project
from phaseflow.toolkit import graph
from pipelines.steps import champion as champions
from pipelines.steps import data, gate, metrics
from pipelines.steps.metrics import Answers, Array

LATENCY_CALLS: Final = 200


def ask(project: Project, onnx: bytes, classes: tuple[str, ...], rows: pl.DataFrame) -> Answers:
    """What the served file says of rows [N]."""
    said, target = graph.run(onnx, graph.feed(rows, project.schema)), project.schema.target
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


def latency_ms(project: Project, onnx: bytes, rows: pl.DataFrame) -> float:
    """99th percentile of one row through onnxruntime, in ms."""
    ready = graph.session(onnx)
    feeds = graph.feed(rows.head(1), project.schema)
    graph.run(ready, feeds)
    times = []
    for _ in range(LATENCY_CALLS):
        begin = time.perf_counter()
        graph.run(ready, feeds)
        times.append((time.perf_counter() - begin) * 1000)
    return float(np.quantile(times, 0.99))


def slices(project: Project, answers: Answers, rows: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """The first metric on each value of each of the gate's slices."""
    found: dict[str, dict[str, Any]] = {}
    for part in project.gate.slices:
        values = rows[part.column].cast(pl.String).fill_null("(missing)").to_numpy().astype(str)
        found[part.column] = {
            value: {
                "rows": int((values == value).sum()),
                "value": metrics.figure(project, project.primary, answers.take(np.flatnonzero(values == value))),
            }
            for value in sorted(set(values))
        }
    return found


def evaluate(project_name: str, snapshot: str, folders: Sequence[Path]) -> dict[str, Any]:
    """Figures of the models in `folders` and of the champion, as one dictionary of plain values."""
    project = registry.get(project_name)
    rows = data.split(project, snapshot, "holdout")
    samples = metrics.resamples(rows.height, project.seed)
    found: dict[str, Any] = {"snapshot": snapshot, "rows": rows.height, "candidates": {}, "champion": None}
    draws: dict[str, Array] = {}
    everyone: dict[str, Answers] = {}
    for folder in folders:
        about = json.loads((folder / "trained.json").read_text())
        onnx = (folder / "model.onnx").read_bytes()
        answers = ask(project, onnx, tuple(about["classes"]), rows)
        name = about["candidate"]
        everyone[name] = answers
        draws[name] = metrics.bootstrap(project, project.primary, answers, samples)
        found["candidates"][name] = about | {
            "metrics": metrics.figures(project, answers),
            "intervals": {project.primary.name: metrics.interval(draws[name])},
            "slices": slices(project, answers, rows),
            "latency_ms": latency_ms(project, onnx, rows),
            "size_mb": len(onnx) / 1e6,
        }
    best = gate.winner(project, found["candidates"])
    found["winner"] = best
    found["candidates"][best]["intervals"] |= {
        metric.name: metrics.interval(metrics.bootstrap(project, metric, everyone[best], samples))
        for metric in project.metrics[1:]
    }
    found["curves"] = curves(everyone[best])
    present = champions.fetch(project)
    if present is not None:
        answers = ask(project, present.onnx, present.classes, rows)
        gains = draws[best] - metrics.bootstrap(project, project.primary, answers, samples)
        gains = gains if project.primary.direction == "higher" else -gains
        found["champion"] = {
            "version": present.version,
            "candidate": present.candidate,
            "metrics": metrics.figures(project, answers),
            "slices": slices(project, answers, rows),
            "gain_interval": metrics.interval(gains),
            "share_of_resamples_better": float(np.nanmean(gains > 0)) if not np.isnan(gains).all() else None,
        }
    return found


def curves(answers: Answers) -> dict[str, Any]:
    """What plots need of the winner: confusion and ROC for classes, truth against answer for numbers, sizes of segments."""
    if not len(answers.truth):
        return {"sizes": {name: int((answers.predicted == name).sum()) for name in answers.classes}}
    if not answers.classes:
        return {"truth": answers.truth.tolist(), "predicted": answers.predicted.tolist()}
    from sklearn.metrics import confusion_matrix, roc_curve  # noqa: PLC0415  # numbers need neither

    confusion = confusion_matrix(answers.truth, answers.predicted, labels=list(answers.classes)).tolist()
    found: dict[str, Any] = {"classes": list(answers.classes), "confusion": confusion}
    if len(answers.classes) == 2 and len(set(answers.truth)) == 2 and answers.probabilities is not None:
        fpr, tpr, thresholds = roc_curve(answers.truth == answers.classes[-1], answers.probabilities[:, -1])
        thresholds = np.minimum(thresholds, 1.0)  # scikit-learn starts at infinity, which JSON can't hold
        found["roc"] = {"fpr": fpr.tolist(), "tpr": tpr.tolist(), "thresholds": thresholds.tolist()}
        found["scores"] = {
            "truth": (answers.truth == answers.classes[-1]).tolist(),
            "score": answers.probabilities[:, -1].tolist(),
        }
    return found
