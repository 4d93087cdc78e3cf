"""Where the demo is played: this machine, or a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from phaseflow.settings import Settings

PROJECT: Final = "titanic"
"""Whose turn it is where nobody says: small, and its model is trained in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the story asks of the place; a part is a process by its name on one machine ("serving", "airflow-scheduler")."""

    settings: Settings
    start: Callable[[Callable[[str], None]], str]
    """Make the platform ready; gives what runs."""
    log: Callable[[str], str]
    """Where the log of a part is."""
    tail: Callable[[str], str]
    """Its last lines."""
    memory_mb: Callable[[], float]
    """Memory that everything uses now, in MiB."""
    again: str
    """How to begin again."""
