"""May an alert start a retraining? A pure function of the alert, what was done before, and the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from phaseflow.contract import Project


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
    pending: str = ""
    """Run id that was decided and is not known to have been accepted: sent again after a crash."""
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is done, and what is remembered then."""

    outcome: str
    """triggered, duplicate, cooldown or cap."""
    memory: Memory
    why: str


def decide(
    project: Project, memory: Memory, alert: Mapping[str, str], now: float, cooldown: float, *, running: bool
) -> Decision:
    """One alert, `{"name", "starts_at", "summary"}`, at the time `now`; `running` says that the DAG is at work.

    An alert that fires on after its retraining (the gate said no) may ask again once the cooldown is over.
    """
    key = f"{alert['name']} {alert['starts_at']}"
    day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
    count = memory.count if memory.day == day else 0
    since = now - memory.at
    if running:
        return Decision(outcome="duplicate", memory=memory, why="a run of the DAG is at work")
    if since < cooldown:
        outcome = "duplicate" if key == memory.alert else "cooldown"
        return Decision(
            outcome=outcome, memory=memory, why=f"retrained {since:.0f} s ago; the cooldown is {cooldown:.0f} s"
        )
    if count >= project.drift.daily_cap:
        return Decision(
            outcome="cap", memory=memory, why=f"retrained {count} times today; {project.drift.daily_cap} are allowed"
        )
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    changed = replace(
        memory,
        alert=key,
        at=now,
        day=day,
        count=count + 1,
        pending=f"retrain__{alert['name']}__{stamp}",
        reason=alert["summary"],
    )
    return Decision(outcome="triggered", memory=changed, why=alert["summary"])
