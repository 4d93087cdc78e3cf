"""Records the steps of a demo, waits for events, and prints the progress."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from cli import show
from cli.demo.probes import TrafficMonitor
from cli.demo.settings import MEMORY_SECONDS, POLL_SECONDS, WAIT_SECONDS
from cli.platforms import Platform
from phaseflow.contract import Project
from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.settings import Settings
from phaseflow.store import write_atomic

Value = TypeVar("Value")


class Recording:
    """The steps of one demo with their durations, and its facts, which `save` writes to `<home>/demo.json`."""

    def __init__(self, platform: Platform, project: Project, *, quiet: bool) -> None:
        self.platform, self.project, self.quiet = platform, project, quiet
        self.started_at = time.monotonic()
        self.steps: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {}
        self.say: Callable[[str], None] = lambda _text: None
        self.part = "supervisord"
        self.measured_at = 0.0

    @contextlib.contextmanager
    def step(self, title: str, part: str) -> Iterator[dict[str, Any]]:
        """Measure the duration of a step; `part` names the process whose log explains a failure."""
        self.part = part
        entry: dict[str, Any] = {"step": title, "ok": False, "seconds": 0.0, "detail": ""}
        self.steps.append(entry)
        start = time.monotonic()
        try:
            with show.working(title, quiet=self.quiet) as self.say:
                yield entry
            entry["ok"] = True
        finally:
            entry["seconds"] = round(time.monotonic() - start, 1)
            if not self.quiet:
                detail = f"  [dim]{entry['detail']}[/]" if entry["ok"] else ""
                show.console.print(f"{show.mark(entry['ok'])} {title}  [dim]{entry['seconds']:.1f} s[/]{detail}")

    def until(
        self,
        event: str,
        check: Callable[[], Value | None],
        monitor: TrafficMonitor | None = None,
        seconds: float = WAIT_SECONDS,
    ) -> Value:
        """Poll `check` until it returns a value; raises PlatformError after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                value = check()
            except PlatformError:
                value = None
                if time.monotonic() > deadline:
                    raise
            if value is not None:
                return value
            if time.monotonic() > deadline:
                raise self.failure(f"{event} did not happen within {seconds:.0f} s")
            if monitor:
                self.say(f"{event}: sent {monitor.last['sent']}, failed {monitor.last['failed']}")
            self._measure()
            time.sleep(POLL_SECONDS)

    def failure(self, problem: str) -> PlatformError:
        """The error of a step. Its fix names the log of the step's part."""
        log = self.platform.log_location(self.part, self.project.name)
        return PlatformError(problem, fix=f"Read {log}, then `{self.platform.command} demo {self.project.name}` again")

    def _measure(self) -> None:
        """Record the maximum memory use of all processes together."""
        if time.monotonic() - self.measured_at >= MEMORY_SECONDS:
            self.measured_at = time.monotonic()
            self.facts["memory_mb"] = round(max(self.platform.memory_mb(), self.facts.get("memory_mb", 0.0)))

    def record_failure(self, error: PhaseflowError) -> None:
        """Record and print the failed step, the error and the end of the step's log."""
        self.facts["error"] = {
            "step": self.steps[-1]["step"] if self.steps else "",
            "problem": error.problem,
            "fix": error.fix,
        }
        show.errors.print(f"\n[bold red]The demo failed at: {self.facts['error']['step']}[/]")
        show.error(error)
        location = self.platform.log_location(self.part, self.project.name)
        end = self.platform.log_tail(self.part, self.project.name)
        show.errors.print(f"its log: {location}\n{end}", markup=False, soft_wrap=True)

    def save(self, settings: Settings) -> dict[str, Any]:
        """Write the results to `<home>/demo.json`, and return them."""
        if "error" not in self.facts:
            self.measured_at = 0.0
            self._measure()
        result = {
            "ok": "error" not in self.facts,
            "project": self.project.name,
            "seconds": round(time.monotonic() - self.started_at, 1),
            "steps": self.steps,
            **self.facts,
        }
        write_atomic(settings.home / "demo.json", json.dumps(result, indent=2, default=str).encode())
        return result
