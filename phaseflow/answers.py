"""What a model answers with, by the kind of the target, in one place for training, service, logs and monitoring.

| target | the graph's outputs, for N rows | a row's value in JSON |
| --- | --- | --- |
| none, or a category | `label` text [N], `probabilities` float32 [N, classes] | the label |
| number | `value` float32 [N] | a number |
| boxes | `boxes` float32 [N, K, 4] (x, y, width, height in pixels), `scores` [N, K], `labels` int64 [N, K] | `[{"box", "label", "score"}]` |
| ranking | `ranking` text [N, K], best first, `scores` [N, K] | a list of ids |
| action | `action` float32 [N, ...] | a list of numbers |
| text | `text` text [N] | a text |

A row of fewer boxes than K is filled up with boxes of score 0, a shorter ranking with "". The logs and a snapshot's target
keep what is no scalar as text: JSON, and a text as it is. Truths have the same form.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from phaseflow import derived
from phaseflow.contract import OUTPUTS, Column
from phaseflow.errors import DataError, suggestion
from phaseflow.reference import PREDICTION

Array = Any
"""NumPy's, which the parts that only need names do without."""

MOST: Final = 1000
"""Boxes or ids in one value."""
SURE: Final = 0.5
"""Score from which a box counts in the live loss."""
OVERLAP: Final = 0.5
"""Intersection over union from which a box is the right one (Everingham et al., The Pascal VOC Challenge, 2010)."""


def kind(target: Column | None, classes: Sequence[str]) -> str:
    """`boxes`, `ranking`, `action` or `text` by the target, else `category` where a model has classes, or `number`."""
    if target is not None and target.kind in OUTPUTS:
        return target.kind
    return "category" if classes else "number"


def structured(target: Column | None) -> bool:
    """Whether an answer is more than a class or a number."""
    return target is not None and target.kind in OUTPUTS


def outputs(target: Column | None, classes: Sequence[str]) -> tuple[str, ...]:
    """The graph's outputs that an answer is made of."""
    scalar = ("label", "probabilities") if classes else ("value",)
    return OUTPUTS[target.kind] if target is not None and target.kind in OUTPUTS else scalar


def watched(target: Column | None) -> tuple[str, ...]:
    """The names under which answers are counted."""
    if target is None or target.kind not in OUTPUTS:
        return (PREDICTION,)
    return tuple(PREDICTION + figure.removeprefix(target.name) for figure in target.figures)


def values(said: Mapping[str, Array], target: Column | None, classes: Sequence[str]) -> list[Any]:
    """The value of each row [N] of the graph's outputs, as a client reads it."""
    match kind(target, classes):
        case "boxes":
            assert target is not None  # noqa: S101  # its kind was asked
            rows = zip(said["boxes"].tolist(), said["scores"].tolist(), said["labels"].tolist(), strict=True)
            return [_boxes(*row, target.allowed) for row in rows]
        case "ranking":
            return [[one for one in row if one] for row in said["ranking"].tolist()]
        case "action":
            return list(said["action"].reshape(len(said["action"]), -1).tolist())
        case "text":
            return list(said["text"].reshape(-1).tolist())
        case "category":
            return list(said["label"].reshape(-1).tolist())
        case _:
            return list(said["value"].reshape(-1).tolist())


def _boxes(boxes: Any, scores: Any, labels: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    """Those of a score, the best first; a hundredth of a pixel is enough."""
    found = sorted(zip(scores, boxes, labels, strict=True), key=lambda one: -one[0])
    return [
        {"box": [round(side, 2) for side in box], "label": names[label], "score": round(score, 4)}
        for score, box, label in found
        if score > 0
    ]


def scores(said: Mapping[str, Array], target: Column | None, classes: Sequence[str]) -> list[float | None]:
    """How sure the model is of each row [N]: the second of two classes, else the highest; None where it does not say."""
    match kind(target, classes):
        case "category":
            shares = said["probabilities"]
            return list((shares[:, 1] if len(classes) == 2 else shares.max(axis=1)).tolist())
        case "boxes" | "ranking":
            found = said["scores"]
            return list(found.max(axis=1).tolist()) if found.shape[1] else [0.0] * len(found)
        case _:
            return [None] * len(said[outputs(target, classes)[0]])


def unfinished(said: Mapping[str, Array]) -> int | None:
    """The first row whose numbers are not all finite; None where all are."""
    for answer in said.values():
        if answer.dtype.kind == "f":
            # Infinities and NaN stay what they are in a sum.
            sums = answer.reshape(len(answer), -1).sum(axis=1, dtype="float64")
            for row, value in enumerate(sums.tolist()):
                if not math.isfinite(value):
                    return row
    return None


def kept(value: Any, target: Column | None) -> Any:
    """A value as the logs and the target's column keep it."""
    if target is None or target.kind not in OUTPUTS or target.kind == "text":
        return value
    return json.dumps(value, separators=(",", ":"))


def read(text: Any, target: Column | None) -> Any:
    """What `kept` wrote, as a value."""
    return json.loads(text) if target is not None and target.kind in OUTPUTS and target.kind != "text" else text


def canonical(text: str | None, target: Column) -> str | None:
    """A cell of the target's column in the one spelling of its value; None for what is no such value."""
    if text is None:
        return None
    try:
        return str(kept(checked(read(text, target), target), target))
    except (ValueError, RecursionError, DataError):  # a JSONDecodeError is a ValueError
        return None


def checked(value: Any, target: Column) -> Any:
    """A truth of kind boxes, ranking, action or text, whatever it was made of; raises DataError with the fix."""
    match target.kind:
        case "boxes":
            return [_box(one, target) for one in _listed(value, 'Send [{"box": [x, y, width, height], "label": ".."}]')]
        case "ranking":
            ids = [str(one) for one in _listed(value, "Send a list of ids, the best first")]
            twice = [name for name, times in Counter(ids).items() if times > 1 or not name]
            if twice:
                raise DataError(f"The id {twice[0]!r} is empty or stands twice", fix="Send each id once")
            return ids
        case "action":
            fix = f"Send {target.size} numbers{_between(target)}"
            numbers = [_finite(one, fix) for one in _listed(value, fix)]
            low, high = target.minimum, target.maximum
            if len(numbers) != target.size or any(
                (low is not None and one < low) or (high is not None and one > high) for one in numbers
            ):
                raise DataError(f"The action is {numbers!r:.100}", fix=fix)
            return numbers
        case _:
            if not isinstance(value, str):
                raise DataError(f"The text is {value!r:.100}", fix="Send a text")
            return value


def _between(target: Column) -> str:
    if target.minimum is None or target.maximum is None:
        return ""
    return f" from {target.minimum:g} to {target.maximum:g}"


def _listed(value: Any, fix: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > MOST:
        problem = (
            f"There are {len(value)}; allowed: {MOST}" if isinstance(value, list) else f"{value!r:.100} is no list"
        )
        raise DataError(problem, fix=fix)
    return value


def _finite(value: Any, fix: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{value!r:.100} is no finite number", fix=fix)
    return float(value)


def _box(one: Any, target: Column) -> dict[str, Any]:
    fix = "Send four numbers in pixels, left, top, width and height, the last two above 0"
    sides = _listed(one.get("box") if isinstance(one, Mapping) else None, fix)
    sides = [_finite(side, fix) for side in sides]
    if len(sides) != 4 or min(sides[2:]) <= 0:
        raise DataError(f"The box is {sides!r:.100}", fix=fix)
    label = str(one.get("label"))
    if target.allowed and label not in target.allowed:
        raise DataError(
            f"The label is {label!r:.100}; allowed: {', '.join(target.allowed)}",
            fix=suggestion(label[:100], target.allowed) or "Send one of them",
        )
    return {"box": sides, "label": label}


def losses(prediction: Any, truth: Any, target: Column | None) -> dict[str, float]:
    """How wrong one answer was: `absolute` and `squared` (the mean of an action's numbers), else `error` from 0 to 1.

    Of boxes it is 1 - F1 of those that are `SURE`, of a ranking the share of the truth that it lacks, of a text 1 - F1 of its
    words (Rajpurkar et al., SQuAD, 2016).
    """
    match kind(target, () if isinstance(prediction, float) else ("",)):
        case "number":
            gap = float(truth) - prediction
            return {"absolute": abs(gap), "squared": gap * gap}
        case "action":
            gaps = [theirs - mine for mine, theirs in zip(prediction, truth, strict=True)]
            count = max(len(gaps), 1)
            return {"absolute": sum(map(abs, gaps)) / count, "squared": sum(gap * gap for gap in gaps) / count}
        case "boxes":
            sure = [one for one in prediction if one.get("score", 1.0) >= SURE]
            return {"error": 1 - _f1(matches(sure, truth), len(sure), len(truth))}
        case "ranking":
            return {"error": 1 - len(set(prediction) & set(truth)) / len(truth) if truth else 0.0}
        case "text":
            mine, theirs = Counter(derived.words(prediction)), Counter(derived.words(truth))
            return {"error": 1 - _f1((mine & theirs).total(), mine.total(), theirs.total())}
        case _:
            return {"error": float(truth != prediction)}


def loss_names(target: Column | None, classes: Sequence[str]) -> tuple[str, ...]:
    """The names of `losses`."""
    return ("absolute", "squared") if kind(target, classes) in {"number", "action"} else ("error",)


def _f1(right: int, said: int, true: int) -> float:
    return 2 * right / (said + true) if said + true else 1.0


def matches(said: Sequence[Mapping[str, Any]], true: Sequence[Mapping[str, Any]]) -> int:
    """How many boxes are right, the best first: each takes the true one of its label that it overlaps most, once."""
    left, right = list(true), 0
    for one in said:
        same = [other for other in left if other["label"] == one["label"]]
        best = max(same, key=lambda other: overlap(one["box"], other["box"]), default=None)
        if best is not None and overlap(one["box"], best["box"]) >= OVERLAP:
            left.remove(best)
            right += 1
    return right


def overlap(left: Sequence[float], right: Sequence[float]) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    wide = min(left[0] + left[2], right[0] + right[2]) - max(left[0], right[0])
    high = min(left[1] + left[3], right[1] + right[3]) - max(left[1], right[1])
    both = max(wide, 0.0) * max(high, 0.0)
    return both / (left[2] * left[3] + right[2] * right[3] - both) if both else 0.0


def schema(target: Column | None, *, truth: bool = False) -> dict[str, Any]:
    """JSON Schema of a row's value; of a truth no box has a score."""
    number: dict[str, Any] = {"type": "number"}
    match kind(target, ("",)):
        case "boxes":
            assert target is not None  # noqa: S101  # its kind was asked
            label = {"type": "string"} | ({"enum": list(target.allowed)} if target.allowed else {})
            box = {"type": "array", "items": number, "minItems": 4, "maxItems": 4}
            parts = {"box": box, "label": label} | ({} if truth else {"score": number})
            one = {"type": "object", "properties": parts, "required": list(parts)}
            return {"type": "array", "items": one, "maxItems": MOST}
        case "ranking":
            return {"type": "array", "items": {"type": "string"}, "maxItems": MOST}
        case "action":
            assert target is not None  # noqa: S101  # its kind was asked
            return {"type": "array", "items": number, "minItems": target.size, "maxItems": target.size}
        case "text":
            return {"type": "string"}
        case _:
            if target is not None and target.kind in {"number", "integer"}:
                return number
            return {"type": "string"} | ({"enum": list(target.allowed)} if target and target.allowed else {})
