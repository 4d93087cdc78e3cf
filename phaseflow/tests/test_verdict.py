"""Formatting of verdicts."""

from __future__ import annotations

from phaseflow import verdict


def test_a_refusal_contains_observed_and_required_values() -> None:
    checks = [
        {"check": "exact_match", "observed": 0.78, "required": ">= 0.6", "passed": True},
        {"check": "token_f1", "observed": 0.84486, "required": ">= 0.85", "passed": False},
        {"check": "gain over the champion", "observed": None, "required": "> 0.005", "passed": False},
    ]
    expected = "token_f1 is 0.8449, allowed >= 0.85; gain over the champion is None, allowed > 0.005"
    assert verdict.refused({"checks": checks}) == expected
