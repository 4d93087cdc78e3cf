"""A clock that was ahead and is correct again: retraining continues, and real earlier retrainings still count."""

from __future__ import annotations

import pytest

from phaseflow import discovery
from services.monitor.decide import CLOCK_TOLERANCE_SECONDS, Day, Decision, Memory, Request, decide
from tests.tally import Row, Tally

NOW = 1_796_000_000.0
YEAR = 365 * 86_400.0
ALERT = Request(name="PhaseflowFeatureDrift", starts_at="2026-11-26T12:00:00Z", summary="drift", basis="requests")


def decide_alert(memory: Memory, total: Day) -> Decision:
    """Decide about an alert at NOW."""
    project = discovery.get("titanic")
    return decide(project, memory, total, ALERT, NOW, cooldown=3600, cap=20, running=False)


@pytest.mark.parametrize("ahead", [CLOCK_TOLERANCE_SECONDS + 1, 7200.0, YEAR, 3 * YEAR, 1e12])
def test_a_retraining_of_the_future_blocks_nothing(ahead: float, tally: Tally) -> None:
    memory = Memory(alert="x", at=NOW + ahead, day="2029-11-26", count=1000, by_requests=1000)
    total = Day(at=NOW + ahead, day="2029-11-26", count=1000, by_requests=1000)
    decision = decide_alert(memory, total)
    assert decide_alert(Memory(at=NOW - 10), Day()).outcome == "cooldown", (
        "a retraining that really happened still counts"
    )
    blocked = [] if decision.outcome == "triggered" else [decision.why]
    tally.add(Row(what=f"a clock that was {ahead:.0f} s ahead", attempts=1, breaches=blocked))
