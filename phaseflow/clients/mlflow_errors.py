"""Error codes of MLflow's REST API, also for environments without MLflow."""

from __future__ import annotations

from typing import Final

ABSENT: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
"""Codes for a model or version that is not registered, and for a model without the alias."""
