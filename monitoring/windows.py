"""Time windows of rules and alerts: seconds for a rehearsal, hours for production."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from phaseflow.contract import Project
from phaseflow.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Time settings of the generated files."""

    window_seconds: int | None = None
    """Window for drift and quality; None uses each project's own."""
    minimum_rows: int | None = None
    hold_seconds: int = 300
    """How long drift must last before an alert fires."""
    scrape_seconds: int = 15
    group_seconds: int = 30
    """How long Alertmanager collects the alerts of a group."""
    repeat_seconds: int = 4 * 3600
    resolve_seconds: int = 300
    runbooks: str = "https://github.com/phaseflow/phaseflow/blob/main/docs/runbooks"

    def window(self, project: Project) -> str:
        """The project's window as a PromQL duration."""
        return f"{self.window_seconds or project.drift.window_seconds}s"

    def rows(self, project: Project) -> int:
        """Minimum number of rows in the window for an alert."""
        return self.minimum_rows or project.drift.minimum_rows


CLUSTER_REHEARSAL: Final = Windows(
    window_seconds=60,
    minimum_rows=150,
    hold_seconds=4,
    scrape_seconds=5,
    group_seconds=1,
    repeat_seconds=60,
    resolve_seconds=30,
)
"""A rehearsal on a cluster: `windows: rehearsal` of the monitoring chart, for use with helm/platform/values-rehearsal.yaml."""


def rehearsal(settings: Settings) -> Windows:
    """The windows of a platform on this machine: with short windows, alerts fire within seconds."""
    short = settings.drift_window_seconds is not None and settings.drift_window_seconds < 600
    return Windows(
        window_seconds=settings.drift_window_seconds,
        minimum_rows=settings.drift_minimum_rows,
        hold_seconds=4 if short else 60,
        scrape_seconds=2,
        group_seconds=1,
        repeat_seconds=60 if short else 3600,
        resolve_seconds=30,
    )
