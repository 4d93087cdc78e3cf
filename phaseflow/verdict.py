"""How the gate's verdict is told, alike in the terminal and in Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def figure(value: object) -> str:
    """What was found or is allowed, with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def refused(verdict: Mapping[str, Any]) -> str:
    """Why a version stays challenger, in one line: the verdict's own sentence, else the checks that it did not pass."""
    if verdict.get("why"):
        return str(verdict["why"]).rstrip(".")
    return "; ".join(
        f"{check['check']} is {figure(check['found'])}, allowed {figure(check['allowed'])}"
        for check in verdict["checks"]
        if not check["passed"]
    )
