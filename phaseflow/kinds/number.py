"""Numbers and integers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from phaseflow.kinds.kind import Array, ColumnSpec, Expr, JsonType, Kind, Prediction

MAX_FLOAT32: Final = 3.4028234e38
"""The largest 32-bit float, as models take 32-bit floats."""
SIGNIFICANT_DIGITS: Final = 6
"""Digits that distinguish two numbers; a 32-bit float has seven."""


class Number(Kind, Prediction):
    """A float. A missing value is NaN in the model."""

    name = "number"
    has_range = has_cell_range = has_numeric_statistics = True
    dtype = label_dtype = "Float64"
    tensor = "FLOAT"
    datatype = "FP64"
    json_form = "a finite number"

    task = "regression"
    outputs = ("value",)
    metrics = ("mae", "mape", "rmse", "rmsle", "r2")
    losses = ("absolute", "squared")
    structured = False
    response_datatype = "FP32"

    @property
    def prediction(self) -> Prediction:
        """Numbers: `value` float32 [N]."""
        return self

    def conform(self, cell: Expr, column: ColumnSpec) -> Expr:
        """Finite numbers; all other values are null."""
        import polars as pl

        number = cell.cast(pl.Float64, strict=False)
        return pl.when(number.is_finite()).then(number)

    def simplify(self, cell: Expr) -> Expr:
        """Numbers with `SIGNIFICANT_DIGITS` digits."""
        import polars as pl

        return cell.cast(pl.Float64).round_sig_figs(SIGNIFICANT_DIGITS)

    def json_type(self, column: ColumnSpec) -> JsonType:
        """A number that fits 32 bits."""
        low = -MAX_FLOAT32 if column.minimum is None else column.minimum
        high = MAX_FLOAT32 if column.maximum is None else column.maximum
        return JsonType(base=float, limits={"ge": low, "le": high}, nullable=column.nullable)

    def label_type(self, column: ColumnSpec) -> JsonType:
        """The same as in a request."""
        return self.json_type(column)

    def values(self, outputs: Mapping[str, Array], target: ColumnSpec | None) -> list[Any]:
        """The numbers."""
        return list(outputs["value"].reshape(-1).tolist())

    def loss(self, prediction: Any, label: Any) -> dict[str, float]:
        """The absolute and the squared error."""
        gap = float(label) - prediction
        return {"absolute": abs(gap), "squared": gap * gap}

    def json_schema(self, target: ColumnSpec | None, *, as_label: bool = False) -> dict[str, Any]:
        """A number."""
        return {"type": "number"}


NUMBER: Final = Number()


class Integer(Kind):
    """A whole number of 64 bits. The model sees a float."""

    name = "integer"
    has_range = has_cell_range = has_numeric_statistics = is_group = True
    dtype = "Int64"
    label_dtype = "Float64"
    tensor = "FLOAT"
    datatype = "INT64"
    json_form = "a whole number"

    @property
    def prediction(self) -> Prediction:
        """Numbers, as for `number`."""
        return NUMBER

    def conform(self, cell: Expr, column: ColumnSpec) -> Expr:
        """Whole numbers: "3.0" is one, "3.5" is not."""
        import polars as pl

        number = cell.cast(pl.Float64, strict=False)
        return pl.when(number == number.floor()).then(number.cast(pl.Int64, strict=False))

    def json_type(self, column: ColumnSpec) -> JsonType:
        """A whole number of 64 bits."""
        low = -(2**63) if column.minimum is None else max(math.ceil(column.minimum), -(2**63))
        high = 2**63 - 1 if column.maximum is None else min(math.floor(column.maximum), 2**63 - 1)
        return JsonType(base=int, limits={"ge": low, "le": high}, nullable=column.nullable)

    def label_type(self, column: ColumnSpec) -> JsonType:
        """A number, so that a client may send 3.0."""
        limits = {"ge": column.minimum, "le": column.maximum}
        return JsonType(base=float, limits={name: limit for name, limit in limits.items() if limit is not None})


INTEGER: Final = Integer()
