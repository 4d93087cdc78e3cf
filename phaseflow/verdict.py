"""Formatting of the verdict of the gate, shared by the CLI and Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def figure(value: object) -> str:
    """Format an observed or required value with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def refused(verdict: Mapping[str, Any]) -> str:
    """Explain in one line why a version was not promoted: the reason in the verdict, else the failed checks."""
    if verdict.get("why"):
        return str(verdict["why"]).rstrip(".")
    return "; ".join(
        f"{check['check']} is {figure(check['observed'])}, allowed {figure(check['required'])}"
        for check in verdict["checks"]
        if not check["passed"]
    )
