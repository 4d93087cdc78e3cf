"""Categories and booleans, which classifiers predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from phaseflow.kinds import spelling
from phaseflow.kinds.kind import Array, ColumnSpec, Expr, JsonType, Kind, Prediction

TRUE: Final = ("true", "1", "yes")
FALSE: Final = ("false", "0", "no")


class Category(Kind, Prediction):
    """A short text, one of `allowed` if that is set."""

    name = "category"
    allowed_values = "values"
    is_hashed = is_group = True

    task = "classification"
    outputs = ("label", "probabilities")
    metrics = ("accuracy", "balanced_accuracy", "f1", "log_loss", "precision", "recall", "roc_auc", "brier")
    structured = False

    @property
    def prediction(self) -> Prediction:
        """Classes: `label` text [N], `probabilities` float32 [N, classes]."""
        return self

    def simplify(self, cell: Expr) -> Expr:
        """Without differences in case, blanks and Unicode form."""
        return spelling.normalize(cell, punctuation=True)

    def values(self, outputs: Mapping[str, Array], target: ColumnSpec | None) -> list[Any]:
        """The class names."""
        return list(outputs["label"].reshape(-1).tolist())

    def scores(self, outputs: Mapping[str, Array]) -> list[float | None]:
        """The probability of the second of two classes, else the maximum."""
        probabilities = outputs["probabilities"]
        return list((probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities.max(axis=1)).tolist())

    def loss(self, prediction: Any, label: Any) -> dict[str, float]:
        """1 for a wrong class."""
        return {"error": float(label != prediction)}

    def json_schema(self, target: ColumnSpec | None, *, as_label: bool = False) -> dict[str, Any]:
        """A text."""
        return {"type": "string"} | ({"enum": list(target.allowed)} if target and target.allowed else {})


CATEGORY: Final = Category()


class Boolean(Kind):
    """True or false. The model sees 1 or 0."""

    name = "boolean"
    dtype = "Boolean"
    tensor = "FLOAT"
    datatype = "BOOL"
    json_form = "true or false"

    @property
    def prediction(self) -> Prediction:
        """Classes, as for `category`: "false" and "true"."""
        return CATEGORY

    def conform(self, cell: Expr, column: ColumnSpec) -> Expr:
        """True for true, 1 and yes, false for false, 0 and no; all other values are null."""
        import polars as pl

        text = cell.cast(pl.String).str.to_lowercase()
        return pl.when(text.is_in(TRUE)).then(True).when(text.is_in(FALSE)).then(False).otherwise(None)

    def json_type(self, column: ColumnSpec) -> JsonType:
        """A boolean."""
        return JsonType(base=bool, nullable=column.nullable)

    def label_type(self, column: ColumnSpec) -> JsonType:
        """The same as in a request."""
        return self.json_type(column)


BOOLEAN: Final = Boolean()
