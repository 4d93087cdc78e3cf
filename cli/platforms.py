"""What a command needs from the platform that it works on: this machine, or a release on a Kubernetes cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cli.local.machine import Finding
from phaseflow.contract import Project
from phaseflow.settings import Settings

Say = Callable[[str], None]
"""Callback that shows the progress."""
Watch = Callable[[str, str, float], None]
"""Callback with the name of a part, its state and the seconds since the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A web page of the platform, with its login."""

    name: str
    url: str
    """Its address. Empty if the page is not there."""
    hint: str = ""
    """How to get the page, if it is not there."""
    user: str = ""
    password: str = ""
    """Empty unless passwords were requested."""
    password_file: str = ""
    """File that contains the password."""
    password_command: str = ""
    """Command that prints the password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartValues:
    """Options of `phaseflow up` on Kubernetes: the values of the chart."""

    profile: str
    rehearsal: bool = False
    files: tuple[Path, ...] = ()
    sets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Result of a command, for programs and for people."""

    data: Mapping[str, Any]
    text: str


class Platform(Protocol):
    """One implementation per kind of platform. A part is named like its process on one machine: "airflow-scheduler"."""

    @property
    def command(self) -> str:
        """The command line that selects this platform: `phaseflow`, or `phaseflow --context NAME`."""
        ...

    def settings(self) -> Settings:
        """Addresses and logins of the parts. Raises PlatformError if there is no platform."""
        ...

    def up(self, values: ChartValues, watch: Watch) -> list[str]:
        """Start or upgrade the platform, wait until it is ready, and return remarks. Raises PlatformError."""
        ...

    def down(self, *, data: bool) -> Outcome:
        """Stop the platform; `data` also deletes its data."""
        ...

    def status(self) -> dict[str, Any]:
        """State of every part, as data."""
        ...

    def show_status(self, status: Mapping[str, Any]) -> None:
        """Print what `status` returned."""
        ...

    def healthy(self, status: Mapping[str, Any]) -> bool:
        """Whether `status` contains parts, and all of them are healthy."""
        ...

    def pages(self, *, passwords: bool) -> list[Page]:
        """Every page; `passwords` includes the passwords."""
        ...

    def findings(self, profile: str) -> list[Finding]:
        """Check the requirements of the platform."""
        ...

    def log_names(self) -> Collection[str]:
        """Names of the parts that have a log."""
        ...

    def print_logs(self, names: Collection[str], *, lines: int, follow: bool) -> int:
        """Print the last lines of the logs to stdout, and return the exit status."""
        ...

    def registry(self, action: str, *arguments: str) -> dict[str, Any]:
        """Run a command of the model registry (`promote`, `rollback`), and return its result. Raises PlatformError."""
        ...

    def prepare_demo(self, project: Project) -> Settings:
        """Make the platform ready for a demo, and return its settings. Raises PlatformError if it can't run one."""
        ...

    def start_demo(self, project: Project, say: Say) -> str:
        """Start the platform for a demo, and describe what is running."""
        ...

    def log_location(self, part: str, project: str) -> str:
        """Path of a part's log, or the command that prints it."""
        ...

    def log_tail(self, part: str, project: str) -> str:
        """Last lines of a part's log."""
        ...

    def memory_mb(self) -> float:
        """Current memory use of all parts together, in MiB."""
        ...
