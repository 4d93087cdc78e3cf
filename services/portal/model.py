"""The status of the platform as plain data, for the pages and for programs. `tone` is ok, active, warn, bad, or empty (grey)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.portal import charts, history


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A process of the platform; `state` is up, degraded, slow or away."""

    name: str
    title: str
    purpose: str
    url: str
    state: str
    detail: str = ""
    optional: bool = False
    login: str = ""
    """Where to find the password of its page; empty if the page has no password of its own."""

    @property
    def tone(self) -> str:
        """The colour of its dot."""
        return {"up": "ok", "away": "" if self.optional else "bad"}.get(self.state, "warn")

    @property
    def expected(self) -> bool:
        """Whether the part counts as one that should run: optional parts count only while they do."""
        return not self.optional or self.state == "up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The served version; `metric` is the project's primary metric, on the holdout of its run."""

    version: str
    candidate: str
    metric: str
    value: float | None
    created: float | None
    stale: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Psi:
    """Drift of one feature."""

    feature: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DagRun:
    """The last run of the project's DAG: `state` is running, success, failed or another state of Airflow."""

    state: str
    seconds: float | None
    succeeded: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert that is pending or firing."""

    name: str
    state: str
    project: str
    severity: str
    summary: str
    since: float | None
    runbook: str
    retrains: bool

    @property
    def tone(self) -> str:
        """The colour of its dot."""
        return "active" if self.severity == "info" else "bad" if self.state == "firing" else "warn"


@dataclass(frozen=True, slots=True)
class State:
    """The state of a project in a few words, its tone, and what to do next (text with commands between backticks)."""

    text: str = ""
    tone: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectStatus:
    """The status of one project; None means 'not measured', never zero."""

    name: str
    title: str
    task: str
    phase: int
    description: str
    problem: str = ""
    """Why its declaration can't be read."""
    champion: Champion | None = None
    challenger: str = ""
    requests_per_second: float | None = None
    p99_ms: float | None = None
    objective_ms: float | None = None
    error_share: float | None = None
    psi: tuple[Psi, ...] = ()
    """Largest value first."""
    psi_threshold: float | None = None
    window_rows: float | None = None
    minimum_rows: float | None = None
    alert: str = ""
    """firing, pending or quiet; empty if it is unknown."""
    responds: bool = True
    """Whether the project's service responded: without a champion, it then has no model."""
    verdict: str = ""
    """The gate's last decision: promoted, refused, or empty if there is none."""
    state: State = State()
    dag: DagRun | None = None
    report: str = ""
    reports: str = ""
    """Address of the project's dashboard in Evidently; empty without a report, or if the address is not known."""
    reported: float | None = None
    traffic: charts.Spark | None = None
    drift: charts.Spark | None = None

    @property
    def untrained(self) -> bool:
        """Whether the project has no model, no verdict of the gate, and no DAG run that may bring one."""
        running = self.dag is not None and self.dag.state == "running"
        return self.champion is None and self.responds and not (self.verdict or self.problem or running)

    @property
    def drifted(self) -> bool:
        """Whether the PSI of a feature reaches the threshold, on enough rows."""
        enough = self.window_rows is not None and self.window_rows >= (self.minimum_rows or 0)
        return bool(enough and self.psi and self.psi_threshold and self.psi[0].value >= self.psi_threshold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the loop; `tone` is ok, active, warn, bad or empty (unavailable, or nothing happened yet)."""

    name: str
    note: str
    tone: str
    url: str = ""
    moving: bool = False
    """Whether the stage is active now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The status of the platform."""

    time: float
    headline: str
    tone: str
    parts: tuple[Part, ...]
    stages: tuple[Stage, ...]
    projects: tuple[ProjectStatus, ...]
    alerts: tuple[Alert, ...] | None
    """None if they are unknown."""
    events: tuple[history.Event, ...]
    away: tuple[str, ...]
    """What is unknown, and why."""
    measured: bool
    """Whether Prometheus responded to every query: missing values were then never measured."""
    history_seconds: float
    """The time span of the small charts."""
    answers: Mapping[str, str]
    """The retraining hook's decision on a project's last alert."""

    def part(self, name: str) -> Part:
        """The part with this name."""
        return next(part for part in self.parts if part.name == name)
