"""The columns of a row."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from phaseflow import checks
from phaseflow.errors import ContractError
from phaseflow.kinds import KINDS, UNAVAILABLE

RESERVED: Final = frozenset(
    {
        *("id", "time", "version", "prediction", "score", "latency_ms", "label"),
        *("label", "probabilities", "value", "contributions"),
    }
)
"""Column names that the prediction log, the feedback log or the outputs of a model already use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column. The ETL, the training and the request validation of the service share this definition."""

    name: str
    """Lower-case letters, digits and underscores."""
    kind: str
    """A kind of column, see [Kinds](#kinds)."""
    nullable: bool = False
    """Whether values may be missing."""
    minimum: float | None = None
    """Smallest valid number."""
    maximum: float | None = None
    """Largest valid number."""
    allowed: tuple[str, ...] = ()
    """Valid values of a category, or valid labels of boxes. Empty means any."""
    shape: tuple[int, ...] = ()
    """Shape of an image or an action."""
    unit: str = ""
    """Unit of measurement, for documents and dashboards."""
    description: str = ""
    """Meaning of the column, for documents."""
    personal: bool = False
    """Whether the column contains personal data.

    The ETL and the service replace an id or an open category (a category without `allowed`) by a keyed hash, which is
    all that the model and the logs contain. The model sees the values of any other kind, but the log, the report and
    the example omit them.
    """

    def __post_init__(self) -> None:
        checks.name("Column.name", self.name)
        where = f"Column {self.name!r}: "
        if self.kind in UNAVAILABLE:
            raise ContractError(
                f"{where}kind is {self.kind!r}, which is not implemented; allowed: {', '.join(sorted(KINDS))}",
                fix=UNAVAILABLE[self.kind],
            )
        checks.one_of(f"{where}kind", self.kind, KINDS)
        kind = KINDS[self.kind]
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ContractError(
                f"{where}minimum is {self.minimum!r}, above maximum {self.maximum!r}", fix="Swap the two values"
            )
        if (self.minimum is not None or self.maximum is not None) and not kind.has_range:
            raise ContractError(
                f"{where}a range is set for kind {self.kind!r}; allowed: {_names(kind.has_range for kind in KINDS.values())}",
                fix="Remove the range",
            )
        if self.allowed and not kind.allowed_values:
            raise ContractError(
                f"{where}allowed is set for kind {self.kind!r}; allowed: "
                f"{_names(kind.allowed_values for kind in KINDS.values())}",
                fix='Remove it, or set kind="category"',
            )
        if not all(isinstance(value, str) for value in self.allowed):
            raise ContractError(
                f"{where}allowed is {self.allowed!r}; allowed: strings", fix="Write each value as a string"
            )
        checks.distinct(f"{where}allowed", self.allowed)
        kind.check(self)
        if self.omitted and not self.nullable:
            raise ContractError(
                f"{where}a personal column of kind {self.kind!r}{' with allowed values' * bool(self.allowed)} is "
                "omitted from the log, so it must be nullable",
                fix="Set nullable=True, so that a model can learn from rows without it, or remove personal",
            )

    @property
    def hashed(self) -> bool:
        """Whether the values are replaced by a keyed hash."""
        return self.personal and KINDS[self.kind].is_hashed and not self.allowed

    @property
    def omitted(self) -> bool:
        """Whether the log, the report and the example omit the column."""
        return self.personal and not self.hashed

    @property
    def monitorable(self) -> tuple[str, ...]:
        """The `descriptors` that metrics and reports may show.

        A personal column has none, except for a hashed id, whose descriptor shows whether it is familiar.
        """
        shows_values = not KINDS[self.kind].statistics(self)
        return self.descriptors if not self.personal or (self.hashed and not shows_values) else ()

    @property
    def size(self) -> int:
        """The number of elements in a value of `shape`. For an image, this is its size in bytes."""
        return math.prod(self.shape)

    @property
    def closed(self) -> bool:
        """Whether each value is one of `allowed`. For boxes, `allowed` restricts the labels only."""
        return bool(self.allowed) and KINDS[self.kind].allowed_values == "values"

    @property
    def descriptors(self) -> tuple[str, ...]:
        """Monitored names of the column: its own name, or `<name>.<descriptor>` if its values are not scalars."""
        statistics = KINDS[self.kind].statistics(self)
        return tuple(f"{self.name}.{statistic}" for statistic in statistics) or (self.name,)


def _names(selected: Iterable[object]) -> str:
    """Names of the selected kinds, in the order of `KINDS`."""
    return ", ".join(name for name, is_selected in zip(KINDS, selected, strict=True) if is_selected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The columns of a row. A request contains the `features`; training learns to predict the `target`."""

    features: tuple[Column, ...]
    """Columns of a request."""
    target: Column | None = None
    """The label. Its kind decides the task. It is None for clustering, which learns from the features alone."""

    def __post_init__(self) -> None:
        checks.not_empty("Schema.features", self.features)
        checks.distinct("Schema", [column.name for column in self.columns])
        for column in self.columns:
            if column.name in RESERVED:
                raise ContractError(
                    f"Column.name is {column.name!r}, which the prediction log or the outputs of a model already use",
                    fix=f'Rename it in `transform`, for example "{column.name}_"',
                )
        for column in self.features:
            if not KINDS[column.kind].is_feature:
                raise ContractError(
                    f"Schema.features contains {column.name!r} of kind {column.kind!r}; allowed for features: "
                    f"{_names(kind.is_feature for kind in KINDS.values())}",
                    fix="Use it as the target, or convert it in `transform`",
                )
        if self.target is not None and KINDS[self.target.kind].prediction is None:
            raise ContractError(
                f"Schema.target {self.target.name!r} is of kind {self.target.kind!r}; allowed for targets: "
                f"{_names(kind.prediction for kind in KINDS.values())}",
                fix="Use it as a feature, or convert it in `transform`",
            )
        if self.target is not None and self.target.personal:
            raise ContractError(
                f"Schema.target {self.target.name!r} is personal, but a model learns to predict it",
                fix="Remove personal. `Keep` limits the age of predictions, and `phaseflow forget` erases single rows",
            )

    @property
    def columns(self) -> tuple[Column, ...]:
        """The features, followed by the target if there is one."""
        return self.features if self.target is None else (*self.features, self.target)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(column.name for column in self.features)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)
