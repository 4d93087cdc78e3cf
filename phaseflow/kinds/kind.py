"""What a kind of column and a type of predictions must provide. Defaults fit a short text.

This module and the kinds import the standard library alone, so that every environment can read a project. Methods that
need Polars, NumPy or Pillow import them themselves.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol

from phaseflow.errors import ContractError, DataError

Array = Any
"""A NumPy array."""
Expr = Any
"""A Polars expression."""

MAX_CHARACTERS: Final = 1000
"""Maximum characters of a short text in a request."""
MAX_TEXT_CHARACTERS: Final = 100_000
"""Maximum characters of a free text in a request or label."""
MAX_ITEMS: Final = 1000
"""Maximum number of boxes, ids or numbers in a value."""


class ColumnSpec(Protocol):
    """The fields of `phaseflow.columns.Column` that kinds read."""

    @property
    def name(self) -> str: ...  # noqa: D102  # documented in the contract
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def nullable(self) -> bool: ...  # noqa: D102
    @property
    def minimum(self) -> float | None: ...  # noqa: D102
    @property
    def maximum(self) -> float | None: ...  # noqa: D102
    @property
    def allowed(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonType:
    """The JSON type of a value, from which the service builds its decoder."""

    base: type
    limits: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `msgspec.Meta`: `ge`, `le`, `min_length`, `max_length`, `pattern`."""
    alternatives: tuple[type, ...] = ()
    """Other types that are accepted too, without limits."""
    nullable: bool = False

    def accepts(self, value: Any) -> bool:
        """Whether a value that was not decoded from JSON, and may be None, is of this type."""
        if value is None:
            return self.nullable
        if isinstance(value, self.alternatives):
            return True
        limits = self.limits
        if self.base in {int, float}:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or (self.base is int and value % 1):
                return False
            return bool(limits.get("ge", -math.inf) <= value <= limits.get("le", math.inf) and abs(value) < math.inf)
        if not isinstance(value, str):
            return isinstance(value, self.base)
        low, high = limits.get("min_length", 0), limits.get("max_length", math.inf)
        return self.base is str and bool(low <= len(value) <= high and re.search(limits.get("pattern", ""), value))


class Prediction(Protocol):
    """A type of predictions: the outputs of the graph, the JSON of a row, the labels and the losses."""

    task: ClassVar[str]
    """The name of the task, for documents."""
    outputs: ClassVar[tuple[str, ...]]
    """Names of the outputs of the graph that make up a prediction. The first one is the field of the response."""
    metrics: ClassVar[tuple[str, ...]] = ()
    """Metrics that phaseflow computes. All others need `Project.evaluate`."""
    losses: ClassVar[tuple[str, ...]] = ("error",)
    """Names of the live losses."""
    structured: ClassVar[bool] = True
    """Whether a prediction is neither a class nor a number."""
    serialized: ClassVar[bool] = False
    """Whether the logs and the target column store a value as JSON text."""
    response_datatype: ClassVar[str] = "BYTES"
    """Datatype of the first output in the Open Inference Protocol."""

    def response_shape(self, target: ColumnSpec | None) -> list[int]:
        """The shape of a row in the Open Inference Protocol."""
        return []

    def values(self, outputs: Mapping[str, Array], target: ColumnSpec | None) -> list[Any]:
        """Convert the outputs of the graph to the JSON value of each row [N]."""

    def scores(self, outputs: Mapping[str, Array]) -> list[float | None]:
        """The score of each row [N], None if the type has no scores."""
        return [None] * len(outputs[self.outputs[0]])

    def validate(self, value: Any, target: ColumnSpec) -> Any:
        """Validate and normalize a structured label. Raises DataError with the fix."""
        return value

    def loss(self, prediction: Any, label: Any) -> dict[str, float]:
        """The losses of a prediction by the names `losses`."""

    def json_schema(self, target: ColumnSpec | None, *, as_label: bool = False) -> dict[str, Any]:
        """The JSON Schema of the value of a row, or of its label."""


class Kind(Protocol):
    """A kind of column: its declaration, storage, tensor, JSON, drift statistics and predictions."""

    name: ClassVar[str]
    """The value of `Column.kind`."""
    is_feature: ClassVar[bool] = True
    """Whether a feature can have this kind. The kind of a target has a `prediction`."""

    # Declaration
    has_range: ClassVar[bool] = False
    """Whether `minimum` and `maximum` may be set."""
    has_cell_range: ClassVar[bool] = False
    """Whether the range applies to the value of a cell, so that a dataframe can check it."""
    allowed_values: ClassVar[str] = ""
    """What `Column.allowed` lists: the "values" of the column, or the "labels" in them. Empty if it can't be set."""
    is_hashed: ClassVar[bool] = False
    """Whether a keyed hash replaces personal values. Personal values of other kinds are not stored."""
    is_group: ClassVar[bool] = False
    """Whether `Project.group` may be a feature of this kind."""

    # Storage and tensor
    dtype: ClassVar[str] = "String"
    """Name of the Polars dtype on disk."""
    label_dtype: ClassVar[str] = "String"
    """Name of the Polars dtype of predictions and labels in the logs."""
    tensor: ClassVar[str] = "STRING"
    """Element type of the ONNX input, a key of `phaseflow.kinds.tensors.TENSORS`."""

    # JSON
    datatype: ClassVar[str] = "BYTES"
    """Datatype of the column in the Open Inference Protocol."""
    json_form: ClassVar[str] = "a text"
    """What a client sends, in words."""

    # Drift
    has_numeric_statistics: ClassVar[bool] = False
    """Whether the monitored statistics are numbers. All others are strings."""
    vocabulary_statistics: ClassVar[tuple[str, ...]] = ()
    """Statistics that depend on the `vocabulary` of a model version."""

    @property
    def prediction(self) -> Prediction | None:
        """The type of predictions of a target of this kind. None if no target can have it."""
        return None

    def check(self, column: ColumnSpec) -> None:
        """Raise ContractError if the declaration of the column does not suit the kind, such as a shape of a scalar."""
        if column.shape:
            raise ContractError(
                f"Column {column.name!r}: shape is {column.shape!r}, but kind {self.name!r} has none",
                fix="Remove shape",
            )

    def cell_form(self, column: ColumnSpec) -> str:
        """What a cell of a source must contain, in words."""
        return f"a {self.name}"

    def conform(self, cell: Expr, column: ColumnSpec) -> Expr:
        """Convert cells of a source to the dtype on disk. Values that can't be converted are null."""
        return cell.cast(_polars().String, strict=False)

    def simplify(self, cell: Expr) -> Expr:
        """The cells without differences that do not matter, to find near-duplicates."""
        return cell

    def json_type(self, column: ColumnSpec) -> JsonType:
        """The type of a value in a request."""
        limits = {"min_length": 0 if column.nullable else 1, "max_length": MAX_CHARACTERS}
        return JsonType(base=str, limits=limits, nullable=column.nullable)

    def label_type(self, column: ColumnSpec) -> JsonType:
        """The type of a label in feedback."""
        return JsonType(base=str, limits={"max_length": MAX_CHARACTERS}, alternatives=(int, bool))

    def encode(self, value: Any, column: ColumnSpec) -> Any:
        """Convert a stored value to the JSON that a client sends."""
        return value

    def statistics(self, column: ColumnSpec) -> tuple[str, ...]:
        """Names of the statistics that are monitored in place of the value. Empty if the value itself is monitored."""
        return ()

    def describe(self, value: Any, column: ColumnSpec, vocabulary: Collection[str]) -> tuple[float | str | None, ...]:
        """The `statistics` of a value that is not None. An undefined statistic is None."""
        return (value,)

    def vocabulary(self, newest: Iterable[str | None], every: Iterable[str | None]) -> tuple[str, ...]:
        """The vocabulary of a model version, from its newest rows and from all of its rows."""
        return ()


def _polars() -> Any:
    import polars as pl

    return pl


def check_shape(column: ColumnSpec, kind: str) -> None:
    """Raise ContractError if the column has no shape."""
    if not column.shape:
        raise ContractError(
            f"Column {column.name!r}: shape is empty for kind {kind!r}", fix="Set the shape, for example (28, 28, 1)"
        )


def check_list(value: Any, fix: str) -> list[Any]:
    """The list `value`. Raises DataError if it is no list or has more than `MAX_ITEMS` items."""
    if not isinstance(value, list):
        raise DataError(f"{value!r:.100} is no list", fix=fix)
    if len(value) > MAX_ITEMS:
        raise DataError(f"There are {len(value)}; allowed: {MAX_ITEMS}", fix=fix)
    return value


def f1_score(true_positives: int, predicted: int, positives: int) -> float:
    """F1 from counts; 1 if there is neither a prediction nor a label."""
    return 2 * true_positives / (predicted + positives) if predicted + positives else 1.0


def max_scores(scores: Array) -> list[float | None]:
    """The maximum score of each row [N, K]; 0 for rows without items."""
    return list(scores.max(axis=1).tolist()) if scores.shape[1] else [0.0] * len(scores)


def check_finite(value: Any, fix: str) -> float:
    """The finite number `value`. Raises DataError if it is none."""
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an integer of more than 308 digits
            number = float(value)
    if not math.isfinite(number):
        raise DataError(f"{value!r:.100} is no finite number", fix=fix)
    return number


def parsed_json(cell: Expr, prediction: Prediction, column: ColumnSpec) -> Expr:
    """Cells of JSON text in their normal form, so that equal values have equal texts; null if a value is invalid."""
    pl = _polars()
    return cell.cast(pl.String, strict=False).map_elements(
        lambda text: normalize(text, prediction, column), return_dtype=pl.String
    )


def normalize(text: str | None, prediction: Prediction, column: ColumnSpec) -> str | None:
    """The normal form of a stored value; None if it is invalid."""
    if text is None:
        return None
    try:
        return str(serialize(prediction.validate(parse(text, prediction), column), prediction))
    except (ValueError, RecursionError, DataError):  # a JSONDecodeError is a ValueError
        return None


def serialize(value: Any, prediction: Prediction) -> Any:
    """Convert a value to its form in the logs and the target column."""
    if not prediction.serialized:
        return value
    return json.dumps(value, separators=(",", ":"))


def parse(text: Any, prediction: Prediction) -> Any:
    """Convert the output of `serialize` back to the value."""
    if not prediction.serialized:
        return text
    return json.loads(text)
