"""Plots of the winner on the holdout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from phaseflow.contract import Project
from phaseflow.toolkit.pictures import BLUE, GREY
from phaseflow.toolkit.pictures import axes as _axes

MAX_WORDS: Final = 12
BESIDE: Final = 0.25
"""Vertical offset of the selection metric from the holdout metric."""


def plots(project: Project, evaluation: Mapping[str, Any]) -> dict[str, Figure]:
    """Plot the comparison of candidates and, by task, ROC, calibration and confusion, residuals or segment sizes."""
    figures = {"candidates": _candidates(project, evaluation)}
    curves = evaluation["curves"]
    if "roc" in curves:
        figures["roc"] = _roc(curves["roc"])
        figures["calibration"] = _calibration(curves["scores"])
    if "confusion" in curves:
        figures["confusion"] = _confusion(curves)
    if "predicted" in curves:
        figures["residuals"] = _residuals(project, curves)
    for name, values in curves.get("figures", {}).items():
        figures[name.replace(".", "_")] = _spread(name, values)
    if "sizes" in curves:
        figures["sizes"] = _sizes(curves["sizes"])
    return figures


def _candidates(project: Project, evaluation: Mapping[str, Any]) -> Figure:
    figure, axes = _axes("Candidates, 95 % intervals", project.primary.name, "", (6.4, 3))
    for position, (name, candidate) in enumerate(evaluation["candidates"].items()):
        value, span = candidate["metrics"][project.primary.name], candidate["intervals"][project.primary.name]
        color = BLUE if name == evaluation["winner"] else GREY
        if span:
            axes.plot(span, [position, position], color=color, linewidth=3, solid_capstyle="round")
        if value is not None:
            axes.plot([value], [position], "o", color=color, label="" if position else "holdout (reported, gated)")
        chosen_by = candidate["selection"]
        if chosen_by["interval"]:
            axes.plot(chosen_by["interval"], [position + BESIDE, position + BESIDE], color=color, linewidth=1)
        if chosen_by["value"] is not None:
            label = "" if position else "inside the training rows (selection)"
            axes.plot([chosen_by["value"]], [position + BESIDE], "o", color=color, markerfacecolor="white", label=label)
    champion = evaluation.get("champion")
    if champion and champion["metrics"][project.primary.name] is not None:
        axes.axvline(
            champion["metrics"][project.primary.name], color="#c0392b", linestyle="--", label="champion, holdout"
        )
    axes.legend(frameon=False, fontsize=7)
    axes.set_yticks(range(len(evaluation["candidates"])), list(evaluation["candidates"]))
    return figure


def _roc(curve: Mapping[str, Any]) -> Figure:
    figure, axes = _axes("ROC", "false positive rate", "true positive rate")
    axes.plot(curve["fpr"], curve["tpr"], color=BLUE)
    axes.plot([0, 1], [0, 1], ":", color=GREY)
    return figure


def _calibration(scores: Mapping[str, Any]) -> Figure:
    label, score = np.array(scores["label"], float), np.array(scores["score"])
    figure, axes = _axes("Calibration", "predicted probability", "observed frequency")
    axes.plot([0, 1], [0, 1], ":", color=GREY)
    groups = np.array_split(np.argsort(score), 8)
    axes.plot(
        [score[g].mean() for g in groups if len(g)], [label[g].mean() for g in groups if len(g)], "o-", color=BLUE
    )
    return figure


def _confusion(curves: Mapping[str, Any]) -> Figure:
    counts, classes = np.array(curves["confusion"]), curves["classes"]
    figure, axes = _axes("Confusion", "predicted", "label", (4.4, 4))
    axes.imshow(counts, cmap="Blues")
    ticks = range(len(classes))
    axes.set_xticks(ticks, classes)
    axes.set_yticks(ticks, classes)
    for row in ticks:
        for column in ticks:
            dark = counts[row, column] > counts.max() / 2
            axes.text(column, row, counts[row, column], ha="center", va="center", color="white" if dark else "black")
    return figure


def _sizes(sizes: Mapping[str, int]) -> Figure:
    figure, axes = _axes("Segments", "rows of the holdout", "", (6.4, 1.2 + 0.45 * len(sizes)))
    axes.barh(list(sizes), list(sizes.values()), color=BLUE)
    return figure


def _spread(name: str, values: Mapping[str, Any]) -> Figure:
    """Plot the distribution of a descriptor for predictions and labels."""
    figure, axes = _axes(name, name.partition(".")[2], "rows", (5.2, 3.2))
    predicted, labels = ([value for value in values[side] if value is not None] for side in ("predicted", "label"))
    if all(isinstance(value, str) for value in (*predicted, *labels)):
        words = [word for word, _ in Counter(labels).most_common(MAX_WORDS)]
        positions = np.arange(len(words))
        axes.bar(positions - 0.2, [labels.count(word) for word in words], 0.4, color=GREY, label="label")
        axes.bar(positions + 0.2, [predicted.count(word) for word in words], 0.4, color=BLUE, label="predicted")
        axes.set_xticks(positions, words, rotation=90)
    else:
        edges = np.histogram_bin_edges([*predicted, *labels], 20)
        axes.hist([labels, predicted], edges, color=[GREY, BLUE], label=["label", "predicted"])
    axes.legend(frameon=False)
    return figure


def _residuals(project: Project, curves: Mapping[str, Any]) -> Figure:
    target = project.schema.target
    unit = f" ({target.unit})" if target and target.unit else ""
    label, predicted = np.array(curves["label"]), np.array(curves["predicted"])
    figure, axes = _axes("Predicted against label", f"label{unit}", f"predicted{unit}")
    axes.plot(label, predicted, ".", color=BLUE, alpha=0.4)
    ends = [min(label.min(), predicted.min()), max(label.max(), predicted.max())]
    axes.plot(ends, ends, ":", color=GREY)
    return figure
