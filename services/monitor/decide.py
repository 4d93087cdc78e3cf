"""Decides whether an alert may start a retraining: pure functions of the alert, the history and the time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from phaseflow.contract import Project

CLOCK_TOLERANCE_SECONDS: Final = 60.0
"""A memory farther in the future than this was written while the clock was ahead, and is ignored."""
FROM_FEEDBACK: Final = "feedback"
"""Value of a rule's label `basis` for alerts that rest on ground-truth labels, not on requests alone, which anyone may send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request for retraining: an alert that Prometheus confirmed."""

    name: str
    starts_at: str
    summary: str
    basis: str = ""
    """The label of its rule; anything but `feedback` counts as caused by requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Number of retrainings on a day (UTC), of one project or of all projects."""

    at: float = 0.0
    """Time of the last retraining, in seconds since the epoch."""
    day: str = ""
    count: int = 0
    by_requests: int = 0
    """The retrainings that were caused by alerts on requests alone."""

    def on_day_of(self, now: float) -> Day:
        """The counts of the day of `now`: zero if they are of another day, or were written while the clock was ahead."""
        today = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
        return self if self.day >= today and self.at - now <= CLOCK_TOLERANCE_SECONDS else Day(day=today)

    def with_retraining(self, now: float, *, by_requests: bool) -> Day:
        """The counts after a retraining at `now`."""
        return replace(self, at=now, count=self.count + 1, by_requests=self.by_requests + by_requests)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The stored history of a project's retrainings."""

    alert: str = ""
    """Name and start of the alert that caused the last retraining."""
    at: float = 0.0
    """Time of the last retraining, in seconds since the epoch."""
    day: str = ""
    count: int = 0
    """Retrainings on that day (UTC)."""
    by_requests: int = 0
    """The retrainings on that day that were caused by alerts on requests alone."""
    pending: str = ""
    """Id of a run that was decided on, but that Airflow has not confirmed: it is sent again after a crash."""
    reason: str = ""

    @property
    def retrainings(self) -> Day:
        """The counts of the day of the last retraining."""
        return Day(at=self.at, day=self.day, count=self.count, by_requests=self.by_requests)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome, and the state to store."""

    outcome: str
    """One of triggered, duplicate, cooldown and cap."""
    memory: Memory
    total: Day
    """Retrainings of all projects."""
    why: str


def share_of_requests(cap: int) -> int:
    """How many of a project's `cap` retrainings may be caused by alerts on requests alone.

    If the cap is two or more, one retraining is reserved for alerts on labels.
    """
    return max(1, cap - 1)


def share_of_requests_in_total(cap: int) -> int:
    """How many of all projects' `cap` retrainings may be caused by alerts on requests alone: a quarter is reserved."""
    return max(1, cap - max(1, cap // 4))


def decide(
    project: Project,
    memory: Memory,
    total: Day,
    request: Request,
    now: float,
    *,
    cooldown: float,
    cap: int,
    running: bool,
) -> Decision:
    """Decide on one alert at the time `now` (seconds since the epoch).

    `cooldown` is in seconds, `cap` is the maximum number of retrainings of all projects per day, and `running` tells whether the DAG is
    running. If an alert keeps firing after its retraining (because the gate refused the model), it may trigger another one after the
    cooldown. Only retrainings decided here count: runs that people start do not.
    """
    by_requests = request.basis != FROM_FEEDBACK
    project_day, total_day = memory.retrainings.on_day_of(now), total.on_day_of(now)

    def no(outcome: str, why: str) -> Decision:
        return Decision(outcome=outcome, memory=memory, total=total, why=why)

    key = f"{request.name} {request.starts_at}"
    since = now - memory.at
    if running:
        return no("duplicate", "the DAG is already running")
    if since >= -CLOCK_TOLERANCE_SECONDS and max(since, 0) < cooldown:
        outcome = "duplicate" if key == memory.alert else "cooldown"
        return no(outcome, f"retrained {max(since, 0):.0f} s ago; the cooldown is {cooldown:.0f} s")
    if why := _over(project_day, project.drift.daily_cap, share_of_requests(project.drift.daily_cap), by_requests, ""):
        return no("cap", why)
    if why := _over(total_day, cap, share_of_requests_in_total(cap), by_requests, " over all projects"):
        return no("cap", why)
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    project_day, total_day = (count.with_retraining(now, by_requests=by_requests) for count in (project_day, total_day))
    new_memory = Memory(
        alert=key,
        at=now,
        day=project_day.day,
        count=project_day.count,
        by_requests=project_day.by_requests,
        pending=f"retrain__{request.name}__{stamp}",
        reason=request.summary,
    )
    return Decision(outcome="triggered", memory=new_memory, total=total_day, why=request.summary)


def _over(day: Day, cap: int, share: int, by_requests: bool, where: str) -> str:
    """Why no further retraining is allowed today; empty if one is."""
    if day.count >= cap:
        return f"retrained {day.count} times today{where}; {cap} are allowed"
    if by_requests and day.by_requests >= share:
        return (
            f"retrained {day.by_requests} times today{where} because of requests alone; {share} are allowed, "
            "the rest is for a drop in quality"
        )
    return ""
