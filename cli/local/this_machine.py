"""The platform on this machine, as the commands see it."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from cli import show
from cli.local import components, doctor, fresh_home, lifecycle, platform, report, supervisor
from cli.local.machine import Finding
from cli.platforms import ChartValues, Outcome, Page, Say, Watch
from phaseflow.contract import Project
from phaseflow.settings import Settings, from_environment


@dataclass(frozen=True, slots=True)
class LocalPlatform:
    """Implements `cli.platforms.Platform` with the processes of this machine."""

    command: str = "phaseflow"

    def settings(self) -> Settings:
        """The settings of the environment."""
        return from_environment()

    def up(self, values: ChartValues, watch: Watch) -> list[str]:  # noqa: ARG002  # a chart's
        """Start every process, and name the optional programs that are not installed."""
        absent = platform.up(from_environment(), watch)
        return [f"{show.mark(None)} {name}: not on this machine. {hint}." for name, hint in absent.items()]

    def down(self, *, data: bool) -> Outcome:  # noqa: ARG002  # `make clean` deletes it
        """Stop every process."""
        settings = from_environment()
        was_running = supervisor.running(settings)
        killed_count = lifecycle.down(settings)
        stopped = was_running or killed_count
        text = f"stopped; the data stays in {settings.home}" if stopped else "nothing ran"
        return Outcome(data={"stopped": was_running, "ended_one_by_one": killed_count}, text=text)

    def status(self) -> dict[str, Any]:
        """State, memory and health of every process."""
        return report.status(from_environment())

    def show_status(self, status: Mapping[str, Any]) -> None:
        """Print a table of the processes, or those that run without a supervisor."""
        report.show_status(status)

    def healthy(self, status: Mapping[str, Any]) -> bool:
        """Whether processes run, and all of them are healthy."""
        return bool(status["programs"]) and all(program["healthy"] for program in status["programs"])

    def pages(self, *, passwords: bool) -> list[Page]:
        """Every page at its own port."""
        return report.pages(from_environment(), passwords=passwords)

    def findings(self, profile: str) -> list[Finding]:  # noqa: ARG002  # a chart's
        """Check this machine."""
        return doctor.examine(from_environment())

    def log_names(self) -> list[str]:
        """Names of the files in the home's folder `logs`."""
        return sorted(path.stem for path in (from_environment().home / "logs").glob("*.log"))

    def print_logs(self, names: Collection[str], *, lines: int, follow: bool) -> int:
        """Run `tail` on the files."""
        settings = from_environment()
        paths = [str(supervisor.log(settings, name)) for name in names]
        argv = ["/usr/bin/env", "tail", *["-F"] * follow, "-n", str(lines), *paths]
        return subprocess.run(argv, check=False).returncode  # `tail` is part of POSIX; `env` finds it on the PATH

    def registry(self, action: str, *arguments: str) -> dict[str, Any]:
        """Run the command in the registry's environment."""
        return components.call(from_environment(), "registry", "services.registry", action, *arguments)

    def prepare_demo(self, project: Project) -> Settings:  # noqa: ARG002  # every project starts with an empty home
        """Empty the home."""
        return fresh_home.create()

    def start_demo(self, project: Project, say: Say) -> str:  # noqa: ARG002  # see `prepare_demo`
        """Start every process."""
        settings = from_environment()
        with show.starting(quiet=True) as watch:
            platform.up(settings, watch, say)
        return f"{len(supervisor.states(settings))} processes"

    def log_location(self, part: str, project: str) -> str:  # noqa: ARG002  # one service serves all projects
        """Path of the log of a process."""
        return str(supervisor.log(from_environment(), part))

    def log_tail(self, part: str, project: str) -> str:  # noqa: ARG002  # one service serves all projects
        """End of the log of a process."""
        return supervisor.tail(supervisor.log(from_environment(), part))

    def memory_mb(self) -> float:
        """Memory of all processes together."""
        return report.memory(supervisor.members(from_environment())) / report.MIB
