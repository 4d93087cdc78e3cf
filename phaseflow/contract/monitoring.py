"""Drift and service-level objectives."""

from __future__ import annotations

from dataclasses import dataclass

from phaseflow import checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """When live data counts as drifted, and how often alerts may start a retraining."""

    features: tuple[str, ...] = ()
    """Features to watch, or single descriptors of non-scalar features (`image.brightness`). Empty means all."""
    psi: float = 0.25
    """Population stability index above which the alert fires: 0.1 is some change, 0.25 a major one (Siddiqi 2006)."""
    window_seconds: int = 3600
    """Length of the window of live data that is compared to the reference."""
    minimum_rows: int = 200
    """Minimum number of rows in the window. Drift is not judged with fewer rows."""
    cooldown_seconds: int = 3600
    """Minimum time between two retrainings that alerts start."""
    daily_cap: int = 4
    """Maximum number of retrainings per day that alerts start."""
    scenario: str = ""
    """`simulate(rows: polars.DataFrame, rng: numpy.random.Generator) -> polars.DataFrame`: returns drifted rows."""

    def __post_init__(self) -> None:
        checks.within("Drift.psi", self.psi, 0.01, 10)
        checks.within("Drift.window_seconds", self.window_seconds, 10, 30 * 86_400, "s")
        checks.within("Drift.minimum_rows", self.minimum_rows, 1, 1e9, "rows")
        checks.within("Drift.cooldown_seconds", self.cooldown_seconds, 0, 30 * 86_400, "s")
        checks.within("Drift.daily_cap", self.daily_cap, 1, 1000, "retrainings")
        if self.scenario:
            checks.reference("Drift.scenario", self.scenario)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """Service-level objectives (SLOs) over 30 days."""

    availability: float = 0.999
    """Share of requests that succeed."""
    latency_ms: float = 100.0
    """Maximum latency of `latency_share` of the requests."""
    latency_share: float = 0.99

    def __post_init__(self) -> None:
        checks.within("Objectives.availability", self.availability, 0.5, 0.99999)
        checks.within("Objectives.latency_ms", self.latency_ms, 0.1, 600_000, "ms")
        checks.within("Objectives.latency_share", self.latency_share, 0.5, 0.99999)
