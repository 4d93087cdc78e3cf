"""Rankings of ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Final

from phaseflow.errors import DataError
from phaseflow.kinds.kind import (
    MAX_ITEMS,
    Array,
    ColumnSpec,
    Expr,
    JsonType,
    Kind,
    Prediction,
    check_list,
    max_scores,
    parsed_json,
)


class Ranking(Kind, Prediction):
    """A list of ids, best first."""

    name = "ranking"
    is_feature = False

    task = "ranking"
    outputs = ("ranking", "scores")
    serialized = True

    @property
    def prediction(self) -> Prediction:
        """Rankings: `ranking` text [N, K], best first and filled with "", `scores` float32 [N, K]."""
        return self

    def cell_form(self, column: ColumnSpec) -> str:
        """JSON."""
        return "the JSON of a ranking"

    def conform(self, cell: Expr, column: ColumnSpec) -> Expr:
        """JSON in its normal form; invalid rankings are null."""
        return parsed_json(cell, self, column)

    def label_type(self, column: ColumnSpec) -> JsonType:
        """A list."""
        return JsonType(base=list)

    def statistics(self, column: ColumnSpec) -> tuple[str, ...]:
        """The first id."""
        return ("first",)

    def describe(self, value: list[str], column: ColumnSpec, vocabulary: Collection[str]) -> tuple[str | None, ...]:
        """The first id; undefined for an empty ranking."""
        return (value[0] if value else None,)

    def values(self, outputs: Mapping[str, Array], target: ColumnSpec | None) -> list[Any]:
        """The ids of each row, without the padding."""
        return [[item for item in row if item] for row in outputs["ranking"].tolist()]

    def scores(self, outputs: Mapping[str, Array]) -> list[float | None]:
        """The maximum score."""
        return max_scores(outputs["scores"])

    def validate(self, value: Any, target: ColumnSpec) -> list[str]:
        """Raise DataError unless the label is a list of different ids."""
        ids = [str(item) for item in check_list(value, "Send a list of ids, the best first")]
        invalid = [name for name, count in Counter(ids).items() if count > 1 or not name]
        if invalid:
            raise DataError(f"The id {invalid[0]!r} is empty or stands twice", fix="Send each id once")
        return ids

    def loss(self, prediction: Any, label: Any) -> dict[str, float]:
        """The share of the label that the prediction lacks."""
        return {"error": 1 - len(set(prediction) & set(label)) / len(label) if label else 0.0}

    def json_schema(self, target: ColumnSpec | None, *, as_label: bool = False) -> dict[str, Any]:
        """A list of texts."""
        return {"type": "array", "items": {"type": "string"}, "maxItems": MAX_ITEMS}


RANKING: Final = Ranking()
