"""What is going on: every part asked at once, each of which may be away, as plain data for the page and for programs."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from phaseflow import Project, registry
from phaseflow.errors import PhaseflowError
from phaseflow.reference import PREDICTIONS
from phaseflow.settings import USER, Settings
from phaseflow.store import Store
from services.portal import charts, history, source, text
from services.portal.prometheus import Prometheus, Series

ANSWERS: Final = 'route=~"predict|infer"'
"""Requests for predictions, not those of probes."""
_ALL: Final = f"sum by (project) (rate(phaseflow_requests_total{{{ANSWERS}}}[1m]))"
_ERRORS: Final = f'sum by (project) (rate(phaseflow_requests_total{{{ANSWERS},code=~"5.."}}[1m]))'
QUERIES: Final[Mapping[str, str]] = {
    "requests": _ALL,
    "errors": f"({_ERRORS} or 0 * {_ALL}) / ({_ALL} > 0)",
    "p99": f"histogram_quantile(0.99, sum by (project, le) (rate(phaseflow_request_duration_seconds_bucket{{{ANSWERS}}}[1m])))",
    "psi": "phaseflow:feature_psi",
    "window_rows": "phaseflow:window_rows",
    "threshold": "phaseflow_drift_threshold",
    "minimum_rows": "phaseflow_drift_minimum_rows",
    "created": "phaseflow_model_created_timestamp_seconds",
    "dag_runs": "phaseflow_dag_runs_total",
    "dag_running": "phaseflow_dag_runs_running",
    "dag_seconds": "phaseflow_dag_run_duration_seconds",
    "dag_success": "phaseflow_dag_last_success_timestamp_seconds",
    "pipeline_running": "phaseflow_pipeline_runs_running",
    "targets": "up",
}
HISTORY: Final[Mapping[str, str]] = {
    "requests": _ALL,
    "psi": f'max by (project) (phaseflow:feature_psi{{feature!~"{PREDICTIONS}"}})',
    "dag_runs": "sum by (dag, state) (phaseflow_dag_runs_total)",
    "began": "count(up)",
}
HISTORY_SECONDS: Final = 1800.0
EVENTS: Final = 12
SHORTEST_SECONDS: Final = 180.0
"""Of a young platform."""
PARTS: Final = (
    # name, title, page of its user interface, where it says how it is, what it is for
    ("airflow", "Airflow", "", "/api/v2/monitor/health", "runs the DAGs"),
    ("pipelines", "Pipeline engine", "/apis/v2beta1/healthz", "/apis/v2beta1/healthz", "trains and judges"),
    ("mlflow", "MLflow", "", "/health", "keeps the models"),
    ("serving", "Service", "/docs", "/healthz", "answers requests"),
    ("monitor", "Monitor", "/healthz", "/healthz", "reports; asks for retraining"),
    ("prometheus", "Prometheus", "", "/-/ready", "measures"),
    ("alertmanager", "Alertmanager", "", "/-/ready", "routes alerts"),
    ("grafana", "Grafana", "", "/api/health", "draws dashboards"),
)
PROTECTED: Final = frozenset({"prometheus", "alertmanager"})
"""Parts whose login the portal has."""
OPTIONAL: Final = frozenset({"grafana"})
"""Parts whose absence is no fault: this portal draws the same dashboards."""


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
    """Where a person finds the password that its page asks for; empty where it asks for none of its own."""

    @property
    def tone(self) -> str:
        """Colour of its dot."""
        return {"up": "ok", "away": "" if self.optional else "bad"}.get(self.state, "warn")

    @property
    def expected(self) -> bool:
        """Whether it counts: one that may be absent does where it answers."""
        return not self.optional or self.state == "up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The served version; `metric` is the project's first, on the holdout of its run."""

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
    """The last run of the project's DAG: `state` is running, success, failed or what Airflow calls it."""

    state: str
    seconds: float | None
    succeeded: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A pending or firing alert."""

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
        """Colour of its dot."""
        return "active" if self.severity == "info" else "bad" if self.state == "firing" else "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectStatus:
    """One project now; None is 'not measured', never zero."""

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
    """Worst first."""
    psi_threshold: float | None = None
    window_rows: float | None = None
    minimum_rows: float | None = None
    alert: str = ""
    """firing, pending, quiet; empty when nobody can tell."""
    dag: DagRun | None = None
    report: str = ""
    reported: float | None = None
    traffic: charts.Chart | None = None
    drift: charts.Chart | None = None

    @property
    def drifted(self) -> bool:
        """Whether a feature is beyond the threshold, on enough rows."""
        enough = self.window_rows is not None and self.window_rows >= (self.minimum_rows or 0)
        return bool(enough and self.psi and self.psi_threshold and self.psi[0].value >= self.psi_threshold)

    @property
    def tone(self) -> str:
        """Colour of its card; retraining that runs says more than the alert that it answers."""
        if self.problem or self.alert == "firing" or (self.dag and self.dag.state == "failed"):
            return "bad"
        if self.dag and self.dag.state == "running":
            return "active"
        return "warn" if self.drifted or self.alert == "pending" else "ok" if self.champion else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One station of the loop; `tone` is ok, active, warn, bad or empty (away, or nothing happened yet)."""

    name: str
    note: str
    tone: str
    url: str = ""
    moving: bool = False
    """Whether something goes on here now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The platform now."""

    time: float
    headline: str
    tone: str
    parts: tuple[Part, ...]
    stages: tuple[Stage, ...]
    projects: tuple[ProjectStatus, ...]
    alerts: tuple[Alert, ...]
    events: tuple[history.Event, ...]
    away: tuple[str, ...]
    """What can't be told, and why."""
    measured: bool
    """Whether Prometheus answered everything: what is missing was then never measured."""
    history_seconds: float
    """What the small charts show."""
    answers: Mapping[str, str]
    """What the retrain hook did with a project's last alert."""

    def part(self, name: str) -> Part:
        """The part called `name`."""
        return next(part for part in self.parts if part.name == name)


@dataclass(frozen=True, slots=True)
class Measured:
    """Answers of Prometheus by the names in QUERIES and HISTORY; empty where it is away."""

    now: Mapping[str, Sequence[Series]]
    past: Mapping[str, Sequence[Series]]
    end: float
    start: float
    """Of the past."""

    def of(self, query: str, **labels: str) -> list[Series]:
        """Series of `query` that bear `labels`."""
        return [s for s in self.now.get(query, ()) if all(s.labels.get(k) == v for k, v in labels.items())]

    def one(self, query: str, **labels: str) -> float | None:
        """The greatest value among them."""
        return max((s.value for s in self.of(query, **labels)), default=None)


STEP: Final = 5.0


async def gather(http: httpx.AsyncClient, settings: Settings) -> Status:
    """Ask every part at once; nothing of them raises."""
    now = time.time()
    store = Store(settings.store)
    readable, problems = declarations()
    names = [project.name for project in readable]
    away: dict[str, str] = {}
    prometheus = Prometheus(http, settings.prometheus_url, settings.login("prometheus"))
    measured, alerts, models, parts, past = await asyncio.gather(
        _measure(prometheus, now, away),
        _alerts(http, prometheus, settings, away),
        _models(http, settings, names, away),
        asyncio.gather(*(_probe(http, settings, *part) for part in PARTS)),
        asyncio.to_thread(_past, store, names),
    )
    projects = tuple(
        _project(p, settings, measured, alerts, models.get(p.name), past.verdicts[p.name], past.reports[p.name])
        for p in readable
    )
    projects += tuple(
        ProjectStatus(name=name, title=name, task="", phase=0, description="", problem=problem)
        for name, problem in problems.items()
    )
    said, tone = headline(projects, alerts or (), parts)
    return Status(
        time=now,
        headline=said,
        tone=tone,
        parts=tuple(parts),
        stages=_stages(parts, projects, measured, alerts, past.latest),
        projects=projects,
        alerts=alerts or (),
        events=past.events,
        away=tuple(away.values()),
        measured="prometheus" not in away,
        history_seconds=measured.end - measured.start,
        answers=past.answers,
    )


def declared(name: str) -> Project:
    """The project `name`; raises PhaseflowError when there is none or its declaration can't be read."""
    try:
        return registry.get(name)
    except PhaseflowError:
        raise
    except Exception as error:  # project.py is anyone's code
        raise PhaseflowError(
            f"projects/{name}/project.py can't be read: {type(error).__name__}: {error}", fix="Correct it"
        ) from error


def declarations() -> tuple[list[Project], dict[str, str]]:
    """Every project whose declaration can be read, and the others' problem by name."""
    readable, problems = [], {}
    for name in registry.names():
        try:
            readable.append(declared(name))
        except PhaseflowError as error:
            problems[name] = str(error)
    return readable, problems


async def _measure(prometheus: Prometheus, now: float, away: dict[str, str]) -> Measured:
    end = now - now % STEP
    try:
        await prometheus.ready()
    except PhaseflowError as error:
        away["prometheus"] = f"No figures: {error}"
        return Measured({}, {}, end, end - HISTORY_SECONDS)
    asked = [prometheus.query(expression) for expression in QUERIES.values()]
    past = [prometheus.query_range(e, end - HISTORY_SECONDS, end, STEP) for e in HISTORY.values()]
    answers = await asyncio.gather(*asked, *past, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            away["prometheus"] = f"Some figures are missing: {answer}"
    found = [() if isinstance(answer, BaseException) else answer for answer in answers]
    answered = dict(zip(HISTORY, found[len(QUERIES) :], strict=True))
    began = min((s.points[0][0] for s in answered["began"]), default=end)
    return Measured(
        dict(zip(QUERIES, found[: len(QUERIES)], strict=True)), answered, end, min(began, end - SHORTEST_SECONDS)
    )


async def _alerts(
    http: httpx.AsyncClient, prometheus: Prometheus, settings: Settings, away: dict[str, str]
) -> tuple[Alert, ...] | None:
    """Pending and firing alerts by Prometheus, else the firing ones by Alertmanager; None when both are away."""
    answers = await asyncio.gather(
        prometheus.alerts(),
        source.get_json(
            http,
            "Alertmanager",
            f"{settings.alertmanager_url}/api/v2/alerts",
            {"silenced": "false"},
            auth=settings.login("alertmanager"),
        ),
        return_exceptions=True,
    )
    found = next((answer for answer in answers if isinstance(answer, list)), None)
    if found is None:
        away["alerts"] = f"Nobody can tell what fires: {answers[0]}"
        return None
    alerts = [_alert(item) for item in found if isinstance(item, dict)]
    return tuple(sorted(alerts, key=lambda alert: (alert.state != "firing", alert.project, alert.name)))


def _alert(item: Mapping[str, Any]) -> Alert:
    labels, annotations = item.get("labels") or {}, item.get("annotations") or {}
    state = item.get("state", "firing")
    return Alert(
        name=str(labels.get("alertname", "alert")),
        state=state if isinstance(state, str) else "firing",
        project=str(labels.get("project", "")),
        severity=str(labels.get("severity", "")),
        summary=str(annotations.get("summary") or annotations.get("description") or ""),
        since=history.unix(item.get("activeAt") or item.get("startsAt")) or None,
        runbook=str(labels.get("runbook_url") or annotations.get("runbook_url") or ""),
        retrains=labels.get("action") == "retrain",
    )


async def _models(
    http: httpx.AsyncClient, settings: Settings, names: Sequence[str], away: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """What the service serves, by project."""

    async def one(name: str) -> dict[str, Any]:
        answer = await source.get(http, "The service", f"{settings.serving(name)}/{name}/model")
        try:
            found = answer.json() if answer.status_code == 200 else {}  # 503: it has no model of this project
        except ValueError:
            return {}
        return found if isinstance(found, dict) and "version" in found else {}

    answers = await asyncio.gather(*map(one, names), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, PhaseflowError):
            away["serving"] = f"Nobody can tell what is served: {answer}"
        elif isinstance(answer, BaseException):
            raise answer
    return {name: answer for name, answer in zip(names, answers, strict=True) if isinstance(answer, dict) and answer}


async def _probe(
    http: httpx.AsyncClient, settings: Settings, name: str, title: str, page: str, health: str, purpose: str
) -> Part:
    base: str = settings.serving(registry.names()[0]) if name == "serving" else getattr(settings, f"{name}_url")
    state, detail = "up", ""
    try:
        response = await source.get(
            http, title, base + health, auth=settings.login(name) if name in PROTECTED else None
        )
        if response.status_code == 401:
            state, detail = "degraded", "does not take the portal's password"
        elif response.status_code >= 500:
            state, detail = "degraded", f"answered {response.status_code}"
        elif name == "airflow":
            state, detail = _airflow(response)
    except source.AwayError as error:
        slow = isinstance(error.__cause__, httpx.TimeoutException)
        state, detail = ("slow", f"no answer in {http.timeout.read:g} s") if slow else ("away", "not running")
    return Part(
        name=name,
        title=title,
        purpose=purpose,
        url=settings.page(name) + page,
        state=state,
        detail=detail,
        optional=name in OPTIONAL,
        login=_login(settings, name),
    )


def _login(settings: Settings, name: str) -> str:
    """Behind the front door a page asks for the door's password alone."""
    if name not in PROTECTED or settings.public_url or settings.login(name) is None:
        return ""
    return f"user `{USER}`, password in `{settings.secrets / f'{name}_password'}`"


def _airflow(response: httpx.Response) -> tuple[str, str]:
    """Airflow's page answers when its scheduler is dead; its health says which part is not healthy."""
    try:
        said = response.json()
        ill = [part for part, its in said.items() if isinstance(its, dict) and its.get("status") == "unhealthy"]
    except (ValueError, AttributeError):
        return "up", ""
    return ("degraded", f"{', '.join(ill)} unhealthy") if ill else ("up", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What the store tells, by project where it is one's."""

    events: tuple[history.Event, ...]
    """Without alerts, which have a place of their own."""
    latest: Mapping[str, history.Event]
    """The newest of a type, of all projects."""
    verdicts: Mapping[str, Sequence[history.Verdict]]
    reports: Mapping[str, tuple[str, float] | None]
    answers: Mapping[str, str]
    """What the retrain hook did with the last alert."""


def _past(store: Store, names: Sequence[str]) -> Past:
    happened = [e for name in names for e in history.events(store, name, EVENTS, without=frozenset({"alert"}))]
    newest = {}
    for kind in ("snapshot", "promotion", "retraining"):
        found = [event for name in names if (event := history.latest(store, name, kind))]
        if found:
            newest[kind] = max(found, key=lambda event: event.time)
    return Past(
        events=tuple(sorted(happened, key=lambda event: event.time, reverse=True)[:EVENTS]),
        latest=newest,
        verdicts={name: history.verdicts(store, name, 1) for name in names},
        reports={name: history.last_report(store, name) for name in names},
        answers={name: event.summary for name in names if (event := history.latest(store, name, "alert"))},
    )


def _project(
    project: Project,
    settings: Settings,
    measured: Measured,
    alerts: tuple[Alert, ...] | None,
    model: Mapping[str, Any] | None,
    verdicts: Sequence[history.Verdict],
    report: tuple[str, float] | None,
) -> ProjectStatus:
    name = project.name
    champion = _champion(project, measured, model) if model else None
    psi = {s.labels.get("feature", ""): s.value for s in measured.of("psi", project=name)}
    watched = sorted(((value, f) for f, value in psi.items() if f in project.watched), reverse=True)
    p99 = measured.one("p99", project=name)
    firing = {alert.state for alert in alerts or () if alert.project == name and alert.severity != "info"}
    threshold = measured.one("threshold", project=name)
    threshold = project.drift.psi if threshold is None else threshold
    last = verdicts[0] if verdicts else None
    return ProjectStatus(
        name=name,
        title=project.title,
        task=project.task,
        phase=project.phase,
        description=project.description,
        champion=champion,
        challenger=last.version if last and (champion is None or last.version != champion.version) else "",
        requests_per_second=measured.one("requests", project=name),
        p99_ms=None if p99 is None else p99 * 1000,
        objective_ms=project.objectives.latency_ms,
        error_share=measured.one("errors", project=name),
        psi=tuple(Psi(feature=feature, value=value) for value, feature in watched),
        psi_threshold=threshold,
        window_rows=measured.one("window_rows", project=name),
        minimum_rows=measured.one("minimum_rows", project=name),
        alert="" if alerts is None else "firing" if "firing" in firing else "pending" if firing else "quiet",
        dag=dag_run(name, measured),
        report=f"{settings.page('monitor')}/reports/{name}/{report[0]}/report.html" if report else "",
        reported=report[1] if report else None,
        traffic=_spark(measured, "requests", name),
        drift=_spark(measured, "psi", name, threshold),
    )


def _champion(project: Project, measured: Measured, model: Mapping[str, Any]) -> Champion:
    version, metrics = str(model["version"]), model.get("metrics")
    value = metrics.get(project.primary.name) if isinstance(metrics, dict) else None
    return Champion(
        version=version,
        candidate=str(model.get("candidate") or ""),
        metric=project.primary.name,
        value=float(value) if isinstance(value, int | float) else None,
        created=measured.one("created", project=project.name, version=version),
        stale=bool(model.get("stale")),
    )


def dag_run(name: str, measured: Measured) -> DagRun | None:
    """The last run of the DAG `name`: running, else the state that was counted last; None when none is known."""
    counts = {s.labels.get("state", ""): s.value for s in measured.of("dag_runs", dag=name) if s.value > 0}
    running = measured.one("dag_running", dag=name)
    if not counts and not running:
        return None
    ended = {
        s.labels.get("state", ""): max(
            (at for (at, new), (_, old) in zip(s.points[1:], s.points, strict=False) if new > old), default=0.0
        )
        for s in measured.past.get("dag_runs", ())
        if s.labels.get("dag") == name
    }
    succeeded = measured.one("dag_success", dag=name)
    if running:
        state = "running"
    elif any(ended.values()):
        state = max(ended, key=ended.__getitem__)
    else:
        state = "success" if "success" in counts else next(iter(counts))
    return DagRun(state=state, seconds=measured.one("dag_seconds", dag=name), succeeded=succeeded)


def _spark(measured: Measured, query: str, project: str, *thresholds: float) -> charts.Chart | None:
    found = [s for s in measured.past.get(query, ()) if s.labels.get("project") == project]
    if not found:
        return None
    named = [("", series) for series in found]
    return charts.time_series(named, measured.start, measured.end, step=STEP, filled=True, thresholds=thresholds)


def headline(projects: Sequence[ProjectStatus], alerts: Sequence[Alert], parts: Sequence[Part]) -> tuple[str, str]:
    """The platform in a sentence: what is worst, else that all is quiet."""
    missing = [part.title for part in parts if part.state == "away" and not part.optional]
    running = [p for p in projects if p.dag and p.dag.state == "running"]
    drifted = [p for p in projects if p.drifted]
    firing = [alert for alert in alerts if alert.state == "firing" and alert.severity != "info"]
    served = [p for p in projects if p.champion]
    if len(missing) == len(parts) - len(OPTIONAL):
        said, tone = "The platform is down: start it with `bin/phaseflow up`", "bad"
    elif missing:
        many = f"{len(missing)} of {len(parts) - len(OPTIONAL)} parts" if len(missing) > 3 else _join(missing)
        said, tone = f"{many} {'is' if len(missing) == 1 else 'are'} away", "bad"
    elif drifted:
        busy = any(p in running for p in drifted)
        told = _join([f"{p.title} has drifted ({p.psi[0].feature})" for p in drifted])
        said, tone = f"{told}{'; retraining runs' if busy else ''}", "active" if busy else "warn"
    elif firing:
        said, tone = f"{len(firing)} alert{'s' if len(firing) > 1 else ''} firing", "bad"
    elif running:
        said, tone = f"{_join([p.title for p in running])}: the DAG runs", "active"
    elif served:
        said, tone = f"All quiet: {len(served)} model{'s' if len(served) > 1 else ''} served, no alert firing", "ok"
    else:
        said, tone = "Everything is up and no model is served yet: run `make demo`", ""
    return said, tone


def _join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _stages(
    parts: Sequence[Part],
    projects: Sequence[ProjectStatus],
    measured: Measured,
    alerts: tuple[Alert, ...] | None,
    last: Mapping[str, history.Event],
) -> tuple[Stage, ...]:
    """The loop's eight stations, each by what is known of it."""
    part = {p.name: p for p in parts}
    running = sum(1 for p in projects if p.dag and p.dag.state == "running")
    failed = sum(1 for p in projects if p.dag and p.dag.state == "failed")
    training = sum(s.value for s in measured.of("pipeline_running"))
    rate = sum(p.requests_per_second or 0.0 for p in projects)
    served = sum(1 for p in projects if p.champion)
    targets = [s.value for s in measured.of("targets")]
    firing = sum(1 for alert in alerts or () if alert.state == "firing" and alert.severity != "info")
    retrained = last.get("retraining")

    def stage(name: str, of: str, note: str, *, active: bool = False, bad: bool = False, warn: bool = False) -> Stage:
        its = part[of]
        if its.state != "up":
            return Stage(name=name, note=its.detail or its.state, tone=its.tone, url=its.url)
        tone = "bad" if bad else "warn" if warn else "active" if active else "ok"
        return Stage(name=name, note=note, tone=tone, url=its.url, moving=active)

    snapshot = last.get("snapshot")
    since = time.time() - retrained.time if retrained else math.inf
    return (
        Stage(
            name="Source",
            note=f"snapshot {text.ago(snapshot.time)}" if snapshot else "no snapshot yet",
            tone="ok" if snapshot else "",
        ),
        stage(
            "Airflow",
            "airflow",
            f"{running} running" if running else f"{failed} failed" if failed else "idle",
            active=running > 0,
            bad=failed > 0,
        ),
        stage("Pipeline", "pipelines", "training" if training else "idle", active=training > 0),
        stage(
            "MLflow",
            "mlflow",
            f"promoted {text.ago(last['promotion'].time)}" if "promotion" in last else "no promotion yet",
        ),
        stage(
            "Service",
            "serving",
            f"{text.figure(rate, 'reqps')}" if rate > 0 else f"{served} model{'' if served == 1 else 's'}, no traffic",
            active=rate > 0,
        ),
        stage(
            "Prometheus",
            "prometheus",
            f"{sum(targets):.0f} of {len(targets)} targets" if targets else "no targets",
            warn=0 in targets,
        ),
        stage("Alert", "alertmanager", f"{firing} firing" if firing else "quiet", bad=firing > 0, active=firing > 0),
        stage(
            "Retrain",
            "monitor",
            f"asked {text.ago(retrained.time)}" if retrained else "never needed yet",
            active=since < (900 if running else 60),
        ),
    )
