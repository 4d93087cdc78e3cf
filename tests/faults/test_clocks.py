"""A clock that was ahead and is right again: retraining goes on, and a lock's holder frees its own alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from phaseflow import registry
from services.monitor import decide
from tests.tally import Row, Tally

NOW = 1_796_000_000.0
ALERT = {"name": "PhaseflowFeatureDrift", "starts_at": "2026-11-26T12:00:00Z", "summary": "drift"}
YEAR = 365 * 86400.0


@pytest.mark.parametrize("ahead", [60.0, 3600.0, YEAR, 3 * YEAR, 1e12])
def test_a_retraining_of_the_future_blocks_nothing(ahead: float, tally: Tally) -> None:
    project = registry.get("titanic")

    def decided(memory: decide.Memory, now: float) -> Any:
        return decide.decide(project, memory, ALERT, now, 3600.0, running=False)

    memory = replace(decide.Memory(), alert="x", at=NOW + ahead)
    blocked = [] if decided(memory, NOW).outcome == "triggered" else [decided(memory, NOW).why]
    # And one a moment ago still holds the cooldown.
    assert decided(replace(memory, at=NOW - 10), NOW).outcome == "cooldown"
    tally.add(Row(what=f"a clock that was {ahead:.0f} s ahead", tried=1, got_in=blocked))
