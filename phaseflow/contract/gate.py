"""Metrics and the requirements for promotion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from phaseflow import checks
from phaseflow.errors import ContractError
from phaseflow.kinds import CATEGORY, NUMBER

DIRECTIONS: Final = frozenset({"higher", "lower"})

_LOWER: Final = frozenset({"log_loss", "brier", "mae", "mape", "rmse", "rmsle"})
_OWN: Final = ("silhouette", "mean_average_precision", "ndcg", "coverage")
METRICS: Final[Mapping[str, str]] = MappingProxyType(
    {name: "lower" if name in _LOWER else "higher" for name in (*CATEGORY.metrics, *NUMBER.metrics, *_OWN)}
)
"""Standard metrics and the direction that is better. A project may declare other metrics with their own direction.

phaseflow computes the metrics of classes and numbers. All others need `Project.evaluate`.
"""

ORIGINS: Final[Mapping[str, str]] = MappingProxyType(
    {"sample": "sample", "package": "package", "public": "public", "cache": "public", "mirror": "public"}
)
"""The origin whose thresholds apply, by source of the snapshot. The cache and the mirror contain the public files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A quality metric. A model that misses `threshold` is not promoted."""

    name: str
    """A key of `METRICS`, or a metric that `Project.evaluate` returns."""
    direction: str = ""
    """"higher" or "lower", whichever is better. The default is the direction in `METRICS`."""
    threshold: float | Mapping[str, float] | None = None
    """A minimum if higher is better, else a maximum.

    It is one number for all data, or one per origin, such as `{"sample": 0.95, "public": 0.9}`. Other origins then have
    no threshold.
    """

    def __post_init__(self) -> None:
        checks.name("Metric.name", self.name)
        if isinstance(self.threshold, Mapping):
            checks.not_empty(f"Metric {self.name!r}: threshold", tuple(self.threshold))
            for origin, value in self.threshold.items():
                checks.one_of(f"Metric {self.name!r}: an origin of threshold", origin, set(ORIGINS.values()))
                checks.within(f"Metric {self.name!r}: threshold of {origin}", value, -1e12, 1e12)
            object.__setattr__(self, "threshold", MappingProxyType(dict(self.threshold)))
        elif self.threshold is not None:
            checks.within(f"Metric {self.name!r}: threshold", self.threshold, -1e12, 1e12)
        standard = METRICS.get(self.name)
        if not self.direction:
            if standard is None:
                checks.one_of("Metric.name (without a direction)", self.name, METRICS)
            object.__setattr__(self, "direction", standard)
        checks.one_of(f"Metric {self.name!r}: direction", self.direction, DIRECTIONS)
        if standard is not None and self.direction != standard:
            raise ContractError(
                f"Metric {self.name!r}: direction is {self.direction!r}, but {standard} is better",
                fix="Remove direction",
            )

    def better(self, left: float, right: float) -> bool:
        """Whether `left` is strictly better than `right`."""
        return left > right if self.direction == "higher" else left < right

    def within(self, threshold: float, value: float) -> bool:
        """Whether `value` is at least as good as `threshold`."""
        return not self.better(threshold, value)

    def limit(self, source: str) -> float | None:
        """The threshold for data from `source`: `sample`, `package`, `public`, `cache` or `mirror`."""
        return (
            self.threshold.get(ORIGINS.get(source, source)) if isinstance(self.threshold, Mapping) else self.threshold
        )

    @property
    def thresholds(self) -> str:
        """The thresholds as text, such as ">= 0.9" or ">= 0.95 (sample), >= 0.9 (public)". Empty without thresholds."""
        sign = ">=" if self.direction == "higher" else "<="
        if isinstance(self.threshold, Mapping):
            return ", ".join(f"{sign} {value:g} ({origin})" for origin, value in self.threshold.items())
        return "" if self.threshold is None else f"{sign} {self.threshold:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A threshold on the first metric for each value of `column` with at least `minimum_rows` holdout rows."""

    column: str
    """A feature."""
    threshold: float
    """Minimum of the first metric if higher is better, else maximum."""
    minimum_rows: int = 30
    """Values with fewer holdout rows are not checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Requirements for promotion to champion, in addition to the `threshold` of each metric.

    See docs/adr/0034-the-gate-asks-for-evidence.md.
    """

    minimum_gain: float = 0.0
    """The paired confidence interval of the gain over the champion in the first metric must lie above this bound."""
    margin: float = 0.0
    """A challenger also wins if it is certainly not worse by more than `margin`, and cheaper by `cheaper`. 0 is off."""
    cheaper: float = 0.5
    """The share of the latency or size of the champion that such a challenger must save."""
    slices: tuple[Slice, ...] = ()
    """Thresholds for parts of the holdout."""
    calibration: float | None = None
    """Maximum expected calibration error (ECE) of a classifier on the holdout. None disables the check."""
    trusted_loss: float = 0.05
    """Maximum loss to the champion on the trusted rows of the holdout. A challenger that is certainly worse is refused.

    A model that adapts to drifted data loses a little on these rows. A model that learned false labels loses much.
    """
    latency_ms: float = 50.0
    """Maximum 99th percentile of the latency of one row in the served artifact."""
    size_mb: float = 100.0
    """Maximum size of the served artifact in MB."""
    folds: int = 5
    """Number of folds of the cross-validation that compares candidates. 1 means a single validation split."""
    approval_hours: float = 0.0
    """Time for a person to approve the promotion in Airflow. Without a response, the version stays challenger.

    0 promotes without approval.
    """

    def __post_init__(self) -> None:
        checks.within("Gate.minimum_gain", self.minimum_gain, 0, 1e12)
        checks.within("Gate.margin", self.margin, 0, 1e12)
        checks.within("Gate.cheaper", self.cheaper, 0.01, 0.99)
        if self.calibration is not None:
            checks.within("Gate.calibration", self.calibration, 0, 1)
        checks.within("Gate.trusted_loss", self.trusted_loss, 0, 1e12)
        checks.within("Gate.latency_ms", self.latency_ms, 0.001, 600_000, "ms")
        checks.within("Gate.size_mb", self.size_mb, 0.001, 100_000, "MB")
        checks.within("Gate.folds", self.folds, 1, 20, "folds")
        checks.within("Gate.approval_hours", self.approval_hours, 0, 24 * 30, "hours")
