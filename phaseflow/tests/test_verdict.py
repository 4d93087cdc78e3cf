"""How a verdict is told."""

from __future__ import annotations

from phaseflow import verdict


def test_a_refusal_names_what_was_found_and_what_is_allowed() -> None:
    checks = [
        {"check": "exact_match", "found": 0.78, "allowed": ">= 0.6", "passed": True},
        {"check": "token_f1", "found": 0.84486, "allowed": ">= 0.85", "passed": False},
        {"check": "gain over the champion", "found": None, "allowed": "> 0.005", "passed": False},
    ]
    expected = "token_f1 is 0.8449, allowed >= 0.85; gain over the champion is None, allowed > 0.005"
    assert verdict.refused({"checks": checks}) == expected
