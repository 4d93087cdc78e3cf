"""Which alerts may start a retraining: the cooldown, the caps, and wrong clocks."""

from __future__ import annotations

import itertools
from collections import defaultdict
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phaseflow import discovery
from services.monitor.decide import (
    CLOCK_TOLERANCE_SECONDS,
    Day,
    Decision,
    Memory,
    Request,
    decide,
    share_of_requests,
    share_of_requests_in_total,
)

TITANIC = discovery.get("titanic")
CAP = TITANIC.drift.daily_cap
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
DRIFT = Request(name="PhaseflowFeatureDrift", starts_at="x", summary="drift", basis="requests")
QUALITY = Request(name="PhaseflowQualityDrop", starts_at="y", summary="quality", basis="feedback")
NOTHING, NO_DAY = Memory(), Day()
TIMES = st.floats(0, 3e9, allow_nan=False)


def decided(
    memory: Memory = NOTHING,
    total: Day = NO_DAY,
    request: Request = DRIFT,
    now: float = NOON,
    *,
    cooldown: float = 0,
    cap: int = 100,
) -> Decision:
    return decide(TITANIC, memory, total, request, now, cooldown=cooldown, cap=cap, running=False)


def outcomes(*requests: Request, cap: int = 100) -> list[str]:
    """The outcomes of requests that follow each other a minute apart."""
    memory, total, results = Memory(), Day(), []
    for index, request in enumerate(requests):
        decision = decided(memory, total, request, NOON + 60 * index, cap=cap)
        memory, total = decision.memory, decision.total
        results.append(decision.outcome)
    return results


@given(st.lists(st.tuples(TIMES, st.booleans(), st.sampled_from([DRIFT, QUALITY])), max_size=40), st.integers(0, 7200))
@settings(deadline=None)
def test_no_history_beats_the_cap_or_the_cooldown(history: list[tuple[float, bool, Request]], cooldown: int) -> None:
    memory, total, retrainings = Memory(), Day(), []
    for now, running, request in sorted(history, key=lambda item: item[0]):
        moment = now + 1e9
        decision = decide(TITANIC, memory, total, request, moment, cooldown=cooldown, cap=3, running=running)
        memory, total = decision.memory, decision.total
        if decision.outcome == "triggered":
            assert not running
            retrainings.append((moment, request))
    assert all(later - earlier >= cooldown for (earlier, _), (later, _) in itertools.pairwise(retrainings))
    days = defaultdict(list)
    for moment, request in retrainings:
        days[datetime.fromtimestamp(moment, UTC).date()].append(request)
    for requests in days.values():
        assert len(requests) <= 3
        assert requests.count(DRIFT) <= share_of_requests_in_total(3)


def test_requests_alone_leave_a_retraining_for_a_drop_in_quality() -> None:
    assert outcomes(*[DRIFT] * CAP, QUALITY, QUALITY) == ["triggered"] * (CAP - 1) + ["cap", "triggered", "cap"]
    assert outcomes(*[QUALITY] * CAP, DRIFT) == ["triggered"] * CAP + ["cap"]


def test_an_alert_of_a_rule_without_a_basis_counts_as_one_of_requests() -> None:
    own = Request(name="Own", starts_at="x", summary="s")
    assert outcomes(*[own] * CAP) == ["triggered"] * (CAP - 1) + ["cap"]


@pytest.mark.parametrize(("cap", "share", "total"), [(1, 1, 1), (2, 1, 1), (4, 3, 3), (20, 19, 15)])
def test_shares_of_requests(cap: int, share: int, total: int) -> None:
    assert (share_of_requests(cap), share_of_requests_in_total(cap)) == (share, total)


def test_the_cap_over_all_projects_has_its_own_message() -> None:
    day = datetime.fromtimestamp(NOON, UTC).strftime("%Y-%m-%d")
    full = Day(at=NOON - 5, day=day, count=20, by_requests=2)
    decision = decided(total=full, request=QUALITY, cap=20)
    assert (decision.outcome, decision.why) == ("cap", "retrained 20 times today over all projects; 20 are allowed")
    assert decision.total == full
    drifted = Day(at=NOON - 5, day=day, count=15, by_requests=15)
    assert decided(total=drifted, cap=20).why == (
        "retrained 15 times today over all projects because of requests alone; 15 are allowed, "
        "the rest is for a drop in quality"
    )
    assert decided(total=drifted, request=QUALITY, cap=20).outcome == "triggered"
    assert decided(total=Day(at=NOON - 86_400, day="2026-05-31", count=20), cap=20).outcome == "triggered"


def test_counts_written_while_the_clock_was_ahead_are_ignored() -> None:
    ahead = NOON + 3 * 365 * 86_400
    memory = Memory(alert="a", at=ahead, day="2029-05-31", count=CAP, by_requests=CAP)
    total = Day(at=ahead, day="2029-05-31", count=20, by_requests=20)
    decision = decided(memory, total, cooldown=3600, cap=20)
    assert decision.outcome == "triggered"
    assert (decision.memory.at, decision.memory.day, decision.memory.count) == (NOON, "2026-06-01", 1)
    assert (decision.total.at, decision.total.count) == (NOON, 1)
    # The same day, hours ahead.
    memory = Memory(alert="a", at=NOON + 7200, day="2026-06-01", count=CAP, by_requests=CAP)
    assert decided(memory, cooldown=3600).outcome == "triggered"


def test_setting_the_clock_back_a_little_does_not_evade_the_cooldown() -> None:
    memory = Memory(alert="a", at=NOON + CLOCK_TOLERANCE_SECONDS, day="2026-06-01", count=1)
    decision = decided(memory, cooldown=3600)
    assert (decision.outcome, decision.why) == ("cooldown", "retrained 0 s ago; the cooldown is 3600 s")
    midnight = datetime(2026, 6, 2, tzinfo=UTC).timestamp()
    full = Memory(alert="a", at=midnight, day="2026-06-02", count=CAP)
    assert decided(full, now=midnight - 1).outcome == "cap"
