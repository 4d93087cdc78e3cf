"""Boxes around the objects of an image."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from phaseflow.errors import DataError, suggestion
from phaseflow.kinds.kind import (
    MAX_ITEMS,
    Array,
    ColumnSpec,
    Expr,
    JsonType,
    Kind,
    Prediction,
    check_finite,
    check_list,
    f1_score,
    max_scores,
    parsed_json,
)

SURE: Final = 0.5
"""Minimum score of a box that counts in the live loss."""
OVERLAP: Final = 0.5
"""Minimum intersection over union of a correct box (Everingham et al., The Pascal VOC Challenge, 2010)."""


class Boxes(Kind, Prediction):
    """A list of boxes in pixels with a label each, one of `allowed` if that is set.

    A labelled box may be marked `"difficult": true`: detecting it is neither right nor wrong (Everingham et al., The
    Pascal VOC Challenge, 2010).
    """

    name = "boxes"
    is_feature = False
    allowed_values = "labels"
    has_numeric_statistics = True

    task = "detection"
    outputs = ("boxes", "scores", "labels")
    serialized = True

    @property
    def prediction(self) -> Prediction:
        """Boxes: `boxes` float32 [N, K, 4] (x, y, width, height), `scores` float32 [N, K], `labels` int64 [N, K].

        A row with fewer than K boxes is padded with boxes of score 0.
        """
        return self

    def cell_form(self, column: ColumnSpec) -> str:
        """JSON."""
        return "the JSON of boxes"

    def conform(self, cell: Expr, column: ColumnSpec) -> Expr:
        """JSON in its normal form; invalid boxes are null."""
        return parsed_json(cell, self, column)

    def label_type(self, column: ColumnSpec) -> JsonType:
        """A list."""
        return JsonType(base=list)

    def statistics(self, column: ColumnSpec) -> tuple[str, ...]:
        """The number of boxes and their mean size."""
        return ("count", "size")

    def describe(
        self,
        value: Sequence[Mapping[str, Any]],
        column: ColumnSpec,
        vocabulary: Collection[str],
    ) -> tuple[float | None, ...]:
        """The number of boxes, and the mean of the square roots of their areas, in pixels."""
        sides = [math.sqrt(max(item["box"][2] * item["box"][3], 0)) for item in value]
        return float(len(sides)), sum(sides) / len(sides) if sides else None

    def values(self, outputs: Mapping[str, Array], target: ColumnSpec | None) -> list[Any]:
        """The boxes of each row with a positive score, highest score first, rounded to a hundredth of a pixel."""
        names = target.allowed if target is not None else ()
        rows = zip(outputs["boxes"].tolist(), outputs["scores"].tolist(), outputs["labels"].tolist(), strict=True)
        return [_detections(*row, names) for row in rows]

    def scores(self, outputs: Mapping[str, Array]) -> list[float | None]:
        """The maximum score."""
        return max_scores(outputs["scores"])

    def validate(self, value: Any, target: ColumnSpec) -> list[dict[str, Any]]:
        """Raise DataError unless the label is a list of boxes."""
        items = check_list(value, 'Send [{"box": [x, y, width, height], "label": ".."}]')
        return [_box(item, target) for item in items]

    def loss(self, prediction: Any, label: Any) -> dict[str, float]:
        """1 - F1 of the boxes with a score of at least `SURE`."""
        confident = [box for box in prediction if box.get("score", 1.0) >= SURE]
        matches, positives = match_boxes(confident, label), sum(not box.get("difficult") for box in label)
        return {"error": 1 - f1_score(matches.count(True), len(matches) - matches.count(None), positives)}

    def json_schema(self, target: ColumnSpec | None, *, as_label: bool = False) -> dict[str, Any]:
        """A list of boxes. The boxes of a label have no score."""
        number: dict[str, Any] = {"type": "number"}
        label = {"type": "string"} | ({"enum": list(target.allowed)} if target and target.allowed else {})
        box = {"type": "array", "items": number, "minItems": 4, "maxItems": 4}
        properties = {"box": box, "label": label} | ({} if as_label else {"score": number})
        optional = {"difficult": {"type": "boolean"}} if as_label else {}
        item = {"type": "object", "properties": properties | optional, "required": list(properties)}
        return {"type": "array", "items": item, "maxItems": MAX_ITEMS}


BOXES: Final = Boxes()


def _detections(boxes: Any, scores: Any, labels: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    detections = sorted(zip(scores, boxes, labels, strict=True), key=lambda detection: -detection[0])
    return [
        {"box": [round(side, 2) for side in box], "label": names[label], "score": round(score, 4)}
        for score, box, label in detections
        if score > 0
    ]


def _box(value: Any, target: ColumnSpec) -> dict[str, Any]:
    fix = "Send four numbers in pixels, left, top, width and height, the last two above 0"
    sides = check_list(value.get("box") if isinstance(value, Mapping) else None, fix)
    sides = [check_finite(side, fix) for side in sides]
    if len(sides) != 4 or min(sides[2:]) <= 0:
        raise DataError(f"The box is {sides!r:.100}", fix=fix)
    label = str(value.get("label"))
    if target.allowed and label not in target.allowed:
        raise DataError(
            f"The label is {label!r:.100}; allowed: {', '.join(target.allowed)}",
            fix=suggestion(label[:100], target.allowed) or "Send one of them",
        )
    if not isinstance(difficult := value.get("difficult", False), bool):
        raise DataError(f"difficult is {difficult!r:.100}", fix="Send true, or leave it out")
    return {"box": sides, "label": label} | ({"difficult": True} if difficult else {})


def match_boxes(predicted: Sequence[Mapping[str, Any]], labelled: Sequence[Mapping[str, Any]]) -> list[bool | None]:
    """Whether each predicted box, best first, is correct: it matches the remaining labelled box that it overlaps most.

    Each labelled box matches once. The result is None if a box only matches a difficult one, which may match any number
    of times.
    """
    remaining = [box for box in labelled if not box.get("difficult")]
    difficult = [box for box in labelled if box.get("difficult")]
    results: list[bool | None] = []
    for box in predicted:
        match = _best_match(box, remaining)
        if match is not None:
            remaining.remove(match)
        results.append(True if match is not None else None if _best_match(box, difficult) is not None else False)
    return results


def _best_match(box: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The box with the same label and the largest overlap. None if all overlaps are below `OVERLAP`."""
    same = [candidate for candidate in candidates if candidate["label"] == box["label"]]
    best = max(same, key=lambda candidate: intersection_over_union(box["box"], candidate["box"]), default=None)
    return best if best is not None and intersection_over_union(box["box"], best["box"]) >= OVERLAP else None


def intersection_over_union(left: Sequence[float], right: Sequence[float]) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    width = min(left[0] + left[2], right[0] + right[2]) - max(left[0], right[0])
    height = min(left[1] + left[3], right[1] + right[3]) - max(left[1], right[1])
    intersection = max(width, 0.0) * max(height, 0.0)
    union = left[2] * left[3] + right[2] * right[3] - intersection
    return intersection / union if intersection else 0.0
