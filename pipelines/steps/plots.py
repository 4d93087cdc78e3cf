"""Pictures of the winner on the holdout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from phaseflow.contract import Project
from phaseflow.toolkit.pictures import BLUE, GREY
from phaseflow.toolkit.pictures import axes as _axes

MOST_WORDS: Final = 12
BESIDE: Final = 0.25
"""By how much the figure of selection stands above that of the holdout."""


def plots(project: Project, evaluation: Mapping[str, Any]) -> dict[str, Figure]:
    """Comparison of the candidates, and by task: ROC, calibration and confusion, or residuals, or the sizes of segments."""
    found = {"candidates": _candidates(project, evaluation)}
    curves = evaluation["curves"]
    if "roc" in curves:
        found["roc"] = _roc(curves["roc"])
        found["calibration"] = _calibration(curves["scores"])
    if "confusion" in curves:
        found["confusion"] = _confusion(curves)
    if "predicted" in curves:
        found["residuals"] = _residuals(project, curves)
    for name, values in curves.get("figures", {}).items():
        found[name.replace(".", "_")] = _spread(name, values)
    if "sizes" in curves:
        found["sizes"] = _sizes(curves["sizes"])
    plt.close("all")
    return found


def _candidates(project: Project, evaluation: Mapping[str, Any]) -> Figure:
    figure, axes = _axes("Candidates, 95 % intervals", project.primary.name, "", (6.4, 3))
    for place, (name, found) in enumerate(evaluation["candidates"].items()):
        value, span = found["metrics"][project.primary.name], found["intervals"][project.primary.name]
        color = BLUE if name == evaluation["winner"] else GREY
        if span:
            axes.plot(span, [place, place], color=color, linewidth=3, solid_capstyle="round")
        if value is not None:
            axes.plot([value], [place], "o", color=color, label="" if place else "holdout (reported, gated)")
        chosen_by = found["selection"]
        if chosen_by["interval"]:
            axes.plot(chosen_by["interval"], [place + BESIDE, place + BESIDE], color=color, linewidth=1)
        if chosen_by["value"] is not None:
            label = "" if place else "inside the training rows (selection)"
            axes.plot([chosen_by["value"]], [place + BESIDE], "o", color=color, markerfacecolor="white", label=label)
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
    truth, score = np.array(scores["truth"], float), np.array(scores["score"])
    figure, axes = _axes("Calibration", "probability said", "share that was true")
    axes.plot([0, 1], [0, 1], ":", color=GREY)
    groups = np.array_split(np.argsort(score), 8)
    axes.plot(
        [score[g].mean() for g in groups if len(g)], [truth[g].mean() for g in groups if len(g)], "o-", color=BLUE
    )
    return figure


def _confusion(curves: Mapping[str, Any]) -> Figure:
    counts, classes = np.array(curves["confusion"]), curves["classes"]
    figure, axes = _axes("Confusion", "said", "true", (4.4, 4))
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
    """A figure of the answers beside the same figure of the truths: how often each value is."""
    figure, axes = _axes(name, name.partition(".")[2], "rows", (5.2, 3.2))
    said, true = ([one for one in values[side] if one is not None] for side in ("predicted", "truth"))
    if all(isinstance(one, str) for one in (*said, *true)):
        words = [word for word, _ in Counter(true).most_common(MOST_WORDS)]
        places = np.arange(len(words))
        axes.bar(places - 0.2, [true.count(word) for word in words], 0.4, color=GREY, label="true")
        axes.bar(places + 0.2, [said.count(word) for word in words], 0.4, color=BLUE, label="said")
        axes.set_xticks(places, words, rotation=90)
    else:
        edges = np.histogram_bin_edges([*said, *true], 20)
        axes.hist([true, said], edges, color=[GREY, BLUE], label=["true", "said"])
    axes.legend(frameon=False)
    return figure


def _residuals(project: Project, curves: Mapping[str, Any]) -> Figure:
    target = project.schema.target
    unit = f" ({target.unit})" if target and target.unit else ""
    truth, said = np.array(curves["truth"]), np.array(curves["predicted"])
    figure, axes = _axes("Said against true", f"true{unit}", f"said{unit}")
    axes.plot(truth, said, ".", color=BLUE, alpha=0.4)
    ends = [min(truth.min(), said.min()), max(truth.max(), said.max())]
    axes.plot(ends, ends, ":", color=GREY)
    return figure
