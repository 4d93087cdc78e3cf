"""Mean average precision, the standard metric of object detectors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from phaseflow import Project, prediction_types
from phaseflow.kinds import boxes as box_kind

Array = npt.NDArray[Any]
RECALLS: Final = np.linspace(0, 1, 101)
"""Recall levels at which the curve is sampled, as in COCO (Lin et al., Microsoft COCO, 2014); VOC 2007 used 11."""


def evaluate(outputs: Mapping[str, Array], rows: pl.DataFrame, project: Project) -> dict[str, float | None]:
    """Compute mean average precision at an IoU of 0.5 (COCO's AP50), and recall and precision of confident boxes."""
    target = project.schema.target
    assert target is not None  # noqa: S101  # the declaration has one
    matches = [
        match_image(_key(boxes), text)
        for boxes, text in zip(prediction_types.values(outputs, target, ()), rows[target.name], strict=True)
    ]
    labels = {label for image in matches for label, count in image[1] if count}
    precisions = [
        average_precision(
            [pair for marks, _ in matches for name, *pair in marks if name == label],
            sum(count for _, counts in matches for name, count in counts if name == label),
        )
        for label in labels
    ]
    total = sum(count for _, counts in matches for _, count in counts)
    confident = [correct for marks, _ in matches for _, score, correct in marks if score >= box_kind.SURE]
    return {
        "mean_average_precision": float(np.mean(precisions)) if precisions else None,
        "recall": sum(confident) / total if total else None,
        "precision": sum(confident) / len(confident) if confident else None,
    }


def _key(boxes: Sequence[Mapping[str, Any]]) -> tuple[tuple[Any, ...], ...]:
    return tuple((box["label"], box["score"], *box["box"]) for box in boxes)


Marks = tuple[tuple[str, float, bool], ...]
Counts = tuple[tuple[str, int], ...]


@lru_cache(maxsize=100_000)
def match_image(predictions: tuple[tuple[Any, ...], ...], things: str) -> tuple[Marks, Counts]:
    """Return label, score and correctness of each predicted box, best first, and the number of objects by label.

    Only the first match of an object is correct; duplicates are wrong. Matches of difficult objects are left out.
    Results are cached, because resamples repeat the same images.
    """
    objects = json.loads(things)
    marks = box_kind.match_boxes([{"label": label, "box": box} for label, _, *box in predictions], objects)
    labels = [thing["label"] for thing in objects if not thing.get("difficult")]
    scored = tuple(
        (prediction[0], prediction[1], correct)
        for prediction, correct in zip(predictions, marks, strict=True)
        if correct is not None
    )
    return scored, tuple((name, labels.count(name)) for name in sorted(set(labels)))


def average_precision(marks: Sequence[Sequence[Any]], total: int) -> float:
    """Return the area under the precision-recall curve of one class.

    `marks` are pairs of score and correctness, `total` is the number of objects. The precision at a recall level is the
    maximum at that or any higher recall (Everingham et al. 2010).
    """
    if not marks:
        return 0.0
    correct = np.array([mark[1] for mark in sorted(marks, key=lambda mark: -mark[0])], np.float64)
    hits = np.cumsum(correct)
    recall, precision = hits / total, hits / np.arange(1, len(correct) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    positions = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(envelope, 0.0)[np.minimum(positions, len(envelope))].mean())
