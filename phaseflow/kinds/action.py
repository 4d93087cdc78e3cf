"""Actions: what a policy does."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from phaseflow.errors import DataError
from phaseflow.kinds.kind import (
    Array,
    ColumnSpec,
    Expr,
    JsonType,
    Kind,
    Prediction,
    check_finite,
    check_list,
    check_shape,
    parsed_json,
)


class Action(Kind, Prediction):
    """Floats of `shape`, each within the range."""

    name = "action"
    is_feature = False
    has_range = has_numeric_statistics = True

    task = "control"
    outputs = ("action",)
    losses = ("absolute", "squared")
    serialized = True
    response_datatype = "FP32"

    @property
    def prediction(self) -> Prediction:
        """Actions: `action` float32 [N, ...]."""
        return self

    def check(self, column: ColumnSpec) -> None:
        """Raise ContractError without a shape."""
        check_shape(column, self.name)

    def cell_form(self, column: ColumnSpec) -> str:
        """JSON."""
        return "the JSON of an action"

    def conform(self, cell: Expr, column: ColumnSpec) -> Expr:
        """JSON in its normal form; invalid actions are null."""
        return parsed_json(cell, self, column)

    def label_type(self, column: ColumnSpec) -> JsonType:
        """A list."""
        return JsonType(base=list)

    def statistics(self, column: ColumnSpec) -> tuple[str, ...]:
        """Each number."""
        return tuple(map(str, range(column.size)))

    def describe(self, value: list[float], column: ColumnSpec, vocabulary: Collection[str]) -> tuple[float, ...]:
        """The numbers."""
        return tuple(value)

    def response_shape(self, target: ColumnSpec | None) -> list[int]:
        """The number of numbers."""
        return [target.size] if target is not None else []

    def values(self, outputs: Mapping[str, Array], target: ColumnSpec | None) -> list[Any]:
        """The numbers of each row."""
        return list(outputs["action"].reshape(len(outputs["action"]), -1).tolist())

    def validate(self, value: Any, target: ColumnSpec) -> list[float]:
        """Raise DataError unless the label has the right number of numbers, all within the range."""
        low, high = target.minimum, target.maximum
        span = "" if low is None or high is None else f" from {low:g} to {high:g}"
        fix = f"Send {target.size} numbers{span}"
        numbers = [check_finite(item, fix) for item in check_list(value, fix)]
        if len(numbers) != target.size or any(
            (low is not None and number < low) or (high is not None and number > high) for number in numbers
        ):
            raise DataError(f"The action is {numbers!r:.100}", fix=fix)
        return numbers

    def loss(self, prediction: Any, label: Any) -> dict[str, float]:
        """The mean absolute and the mean squared error of the numbers."""
        gaps = [expected - actual for actual, expected in zip(prediction, label, strict=True)]
        count = max(len(gaps), 1)
        return {"absolute": sum(map(abs, gaps)) / count, "squared": sum(gap * gap for gap in gaps) / count}

    def json_schema(self, target: ColumnSpec | None, *, as_label: bool = False) -> dict[str, Any]:
        """A list of numbers."""
        size = {} if target is None else {"minItems": target.size, "maxItems": target.size}
        return {"type": "array", "items": {"type": "number"}, **size}


ACTION: Final = Action()
