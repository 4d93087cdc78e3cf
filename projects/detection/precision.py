"""Mean average precision, the figure by which detectors are judged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from phaseflow import Project, answers

Array = npt.NDArray[Any]
RECALLS: Final = np.linspace(0, 1, 101)
"""Where the curve is read, as COCO does it."""


def evaluate(said: Mapping[str, Array], rows: pl.DataFrame, project: Project) -> dict[str, float | None]:
    """Mean average precision of rows [N], where a box is right whose overlap with the truth is a half, and boxes found."""
    target = project.schema.target
    assert target is not None  # noqa: S101  # the declaration has one
    found = [
        judged(_key(boxes), text)
        for boxes, text in zip(answers.values(said, target, ()), rows[target.name], strict=True)
    ]
    labels = {label for image in found for label, times in image[1] if times}
    precisions = [
        average_precision(
            [pair for marks, _ in found for name, *pair in marks if name == label],
            sum(times for _, counts in found for name, times in counts if name == label),
        )
        for label in labels
    ]
    true = sum(times for _, counts in found for _, times in counts)
    sure = [right for marks, _ in found for _, score, right in marks if score >= answers.SURE]
    return {
        "mean_average_precision": float(np.mean(precisions)) if precisions else None,
        "recall": sum(sure) / true if true else None,
        "precision": sum(sure) / len(sure) if sure else None,
    }


def _key(boxes: Sequence[Mapping[str, Any]]) -> tuple[tuple[Any, ...], ...]:
    return tuple((one["label"], one["score"], *one["box"]) for one in boxes)


Marks = tuple[tuple[str, float, bool], ...]
Counts = tuple[tuple[str, int], ...]


@lru_cache(maxsize=100_000)
def judged(said: tuple[tuple[Any, ...], ...], truth: str) -> tuple[Marks, Counts]:
    """Of one image: label, score and whether it is right of each box said, the best first; and how many there are by label.

    A true box is found once: what finds it again is wrong. Kept, because resamples ask of the same images again and again.
    """
    true = json.loads(truth)
    left, marks = [(one["label"], one["box"]) for one in true], []
    for label, score, *box in said:
        overlaps = [answers.overlap(box, other) if name == label else 0.0 for name, other in left]
        best = int(np.argmax(overlaps)) if overlaps else 0
        right = bool(overlaps) and overlaps[best] >= answers.OVERLAP
        if right:
            del left[best]
        marks.append((label, score, right))
    labels = [one["label"] for one in true]
    return tuple(marks), tuple((name, labels.count(name)) for name in sorted(set(labels)))


def average_precision(marks: Sequence[Sequence[Any]], true: int) -> float:
    """The area below precision by recall of one class: `marks` are score and whether it is right, `true` how many there are.

    Precision is the best that is reached at that recall or a higher one (Everingham et al. 2010).
    """
    if not marks:
        return 0.0
    right = np.array([mark[1] for mark in sorted(marks, key=lambda mark: -mark[0])], np.float64)
    hits = np.cumsum(right)
    recall, precision = hits / true, hits / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(best, 0.0)[np.minimum(places, len(best))].mean())
