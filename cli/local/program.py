"""Data classes for the platform's steps and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command that runs to its end before the programs that need it start. It is idempotent."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A health check: the response must be 2xx and, if `path` is set, its JSON must contain `value` at that path."""

    url: str
    path: tuple[str, ...] = ()
    value: str = ""
    heartbeat: tuple[str, ...] = ()
    """If set, the path of a time in ISO 8601 in the response. The program must have written it after its start: for a
    while, the heartbeat of a killed predecessor still counts as `value`."""
    login: str = ""
    """The part whose login the request needs ("prometheus", "alertmanager"); empty if it needs none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A process that supervisord keeps running."""

    name: str
    what: str
    """Its purpose in a few words."""
    argv: tuple[str, ...]
    health: Health
    environment: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    """Names of the steps that must run before."""
    ports: tuple[str, ...] = ()
    """Names in `phaseflow.settings.PORTS` that it listens on."""
    stop_signal: str = "TERM"
    stop_seconds: int = 15
    """Seconds to stop before the process group is killed."""
    reload_signal: str = ""
    """Signal that makes it reload its configuration."""
    adopts: bool = False
    """Whether it finds children in their own sessions again after a crash. They are not ended when it starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All steps and programs of one `up`."""

    steps: tuple[Step, ...]
    programs: tuple[Program, ...]
    absent: Mapping[str, str] = field(default_factory=dict)
    """Optional programs that are not installed, and how to install each."""
