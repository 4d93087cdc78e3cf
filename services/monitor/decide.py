"""May an alert start a retraining? Pure functions of the alert, what was done before, and the time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from phaseflow.contract import Project

CLOCK_TOLERANCE_SECONDS: Final = 60.0
"""A memory that lies farther in the future was written by a clock that was ahead, and counts as none."""
FROM_FEEDBACK: Final = "feedback"
"""Value of a rule's label `basis`: the alert rests on truths that came back, not on requests alone, which anybody may send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An alert, confirmed by Prometheus, that asks for a retraining."""

    name: str
    starts_at: str
    summary: str
    basis: str = ""
    """Of its rule; anything but `feedback` counts as caused by requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Retrainings of a day (UTC), of one project or of all together."""

    at: float = 0.0
    """When the last one was, seconds since the epoch."""
    day: str = ""
    count: int = 0
    by_requests: int = 0
    """Of them those that alerts on requests alone caused."""

    def seen_at(self, now: float) -> Day:
        """The counts of the day of `now`: those of another day, and those that a clock which was ahead wrote, count as none."""
        today = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
        return self if self.day >= today and self.at - now <= CLOCK_TOLERANCE_SECONDS else Day(day=today)

    def with_one_more(self, now: float, *, by_requests: bool) -> Day:
        """After a retraining at `now`."""
        return replace(self, at=now, count=self.count + 1, by_requests=self.by_requests + by_requests)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is remembered of a project's retrainings."""

    alert: str = ""
    """Name and start of the alert that caused the last one."""
    at: float = 0.0
    """When, seconds since the epoch."""
    day: str = ""
    count: int = 0
    """Retrainings on that day (UTC)."""
    by_requests: int = 0
    """Of them those that alerts on requests alone caused."""
    pending: str = ""
    """Run id that was decided and is not known to have been accepted: sent again after a crash."""
    reason: str = ""

    @property
    def retrainings(self) -> Day:
        """Of the day of the last one."""
        return Day(at=self.at, day=self.day, count=self.count, by_requests=self.by_requests)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is done, and what is remembered then."""

    outcome: str
    """triggered, duplicate, cooldown or cap."""
    memory: Memory
    total: Day
    """Retrainings of all projects."""
    why: str


def share_of_requests(cap: int) -> int:
    """How many of a project's `cap` retrainings alerts on requests alone may cause: one is left for truths, where there are two."""
    return max(1, cap - 1)


def share_of_requests_in_total(cap: int) -> int:
    """The same of the cap over all projects, of which a quarter is left."""
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

    `cooldown` is in seconds, `cap` the most retrainings of all projects on a day, and `running` says that the DAG is at work. An alert
    that fires on after its retraining (the gate said no) may ask again once the cooldown is over. Only what is decided here counts:
    runs that people start do not.
    """
    by_requests = request.basis != FROM_FEEDBACK
    own, every = memory.retrainings.seen_at(now), total.seen_at(now)

    def no(outcome: str, why: str) -> Decision:
        return Decision(outcome=outcome, memory=memory, total=total, why=why)

    key = f"{request.name} {request.starts_at}"
    since = now - memory.at
    if running:
        return no("duplicate", "a run of the DAG is at work")
    if since >= -CLOCK_TOLERANCE_SECONDS and max(since, 0) < cooldown:
        outcome = "duplicate" if key == memory.alert else "cooldown"
        return no(outcome, f"retrained {max(since, 0):.0f} s ago; the cooldown is {cooldown:.0f} s")
    if why := _over(own, project.drift.daily_cap, share_of_requests(project.drift.daily_cap), by_requests, ""):
        return no("cap", why)
    if why := _over(every, cap, share_of_requests_in_total(cap), by_requests, " over all projects"):
        return no("cap", why)
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    own, every = (count.with_one_more(now, by_requests=by_requests) for count in (own, every))
    changed = Memory(
        alert=key,
        at=now,
        day=own.day,
        count=own.count,
        by_requests=own.by_requests,
        pending=f"retrain__{request.name}__{stamp}",
        reason=request.summary,
    )
    return Decision(outcome="triggered", memory=changed, total=every, why=request.summary)


def _over(done: Day, cap: int, share: int, by_requests: bool, where: str) -> str:
    """Why no more is allowed today; empty where it is."""
    if done.count >= cap:
        return f"retrained {done.count} times today{where}; {cap} are allowed"
    if by_requests and done.by_requests >= share:
        return (
            f"retrained {done.by_requests} times today{where} because of requests alone; {share} are allowed, "
            "the rest is for a drop in quality"
        )
    return ""
