"""What the platform runs, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command that runs to its end before the programs that need it start; doing it again changes nothing."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Well is an answer of 2xx, and where `path` is given, `value` at that place of its JSON."""

    url: str
    path: tuple[str, ...] = ()
    value: str = ""
    login: str = ""
    """The part whose login the request needs ("prometheus", "alertmanager"); empty where the address asks for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A process that supervisord keeps running."""

    name: str
    what: str
    """What it is for, in a few words."""
    argv: tuple[str, ...]
    health: Health
    environment: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    """Names of the steps that come before."""
    ports: tuple[str, ...] = ()
    """Names in `phaseflow.settings.PORTS` that it listens on."""
    stop_signal: str = "TERM"
    stop_seconds: int = 15
    """After it the process group is killed."""
    reload_signal: str = ""
    """Makes it read its configuration again."""
    adopts: bool = False
    """Whether it finds children in sessions of their own again after a crash: those are not ended when it starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that `up` does."""

    steps: tuple[Step, ...]
    programs: tuple[Program, ...]
    absent: Mapping[str, str] = field(default_factory=dict)
    """Optional programs that are not on this machine, and how to get each."""
