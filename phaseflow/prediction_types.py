"""Predictions and labels in training, service, logs and monitoring, by the kind of the target.

`phaseflow.kinds` has a type of predictions for each kind of target. A target of a scalar kind (or none) may be predicted
as a class or as a number; whether the model has classes decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from phaseflow import kinds
from phaseflow.columns import Column
from phaseflow.kinds import CATEGORY, NUMBER, Prediction
from phaseflow.kinds import kind as conversion
from phaseflow.reference import PREDICTION

Array = Any
"""A NumPy array. Processes that only use names do not import NumPy."""


def of(target: Column | None, classes: Sequence[str]) -> Prediction:
    """The type of a model's predictions: that of a structured target, else classes if there are any, else numbers."""
    prediction = kinds.of_target(target)
    return prediction if prediction.structured else CATEGORY if classes else NUMBER


def is_structured(target: Column | None) -> bool:
    """Whether predictions are boxes, rankings, actions or texts, rather than classes or numbers."""
    return kinds.of_target(target).structured


def output_names(target: Column | None, classes: Sequence[str]) -> tuple[str, ...]:
    """Names of the outputs of the graph that make up a prediction."""
    return of(target, classes).outputs


def monitored_names(target: Column | None) -> tuple[str, ...]:
    """Names under which predictions are monitored."""
    if target is None or not is_structured(target):
        return (PREDICTION,)
    return tuple(PREDICTION + descriptor.removeprefix(target.name) for descriptor in target.descriptors)


def values(outputs: Mapping[str, Array], target: Column | None, classes: Sequence[str]) -> list[Any]:
    """Convert the outputs of the graph to the JSON value of each row [N]."""
    return of(target, classes).values(outputs, target)


def first_non_finite(outputs: Mapping[str, Array]) -> int | None:
    """The index of the first row with a non-finite number. None if all numbers are finite."""
    for output in outputs.values():
        if output.dtype.kind == "f":
            # A sum with a NaN or an infinity is not finite.
            sums = output.reshape(len(output), -1).sum(axis=1, dtype="float64")
            for row, value in enumerate(sums.tolist()):
                if not math.isfinite(value):
                    return row
    return None


def serialize(value: Any, target: Column | None) -> Any:
    """Convert a value to its form in the logs and the target column: JSON text, or the value itself."""
    return conversion.serialize(value, kinds.of_target(target))


def parse(text: Any, target: Column | None) -> Any:
    """Convert the output of `serialize` back to the value."""
    return conversion.parse(text, kinds.of_target(target))


def validate(value: Any, target: Column) -> Any:
    """Validate and normalize a label of a structured target. Raises DataError with the fix."""
    return kinds.of_target(target).validate(value, target)


def losses(prediction: Any, label: Any, target: Column | None) -> dict[str, float]:
    """The losses of a prediction: `absolute` and `squared` for numbers and actions, else `error` from 0 to 1."""
    return of(target, () if isinstance(prediction, float) else ("",)).loss(prediction, label)


def loss_names(target: Column | None, classes: Sequence[str]) -> tuple[str, ...]:
    """Names of the losses that `losses` returns."""
    return of(target, classes).losses


def json_schema(target: Column | None, *, as_label: bool = False) -> dict[str, Any]:
    """The JSON Schema of the value of a row. The boxes of a label have no score."""
    return kinds.of_target(target).json_schema(target, as_label=as_label)
