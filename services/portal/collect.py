"""Collects the status of the platform. All parts are queried at once; any may be unavailable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx

from phaseflow import Project, discovery, reports
from phaseflow.errors import PhaseflowError
from phaseflow.settings import Settings
from phaseflow.store import Store
from services.portal import charts, headline, history, parts, source, stages
from services.portal.measure import STEP, Measured, dag_run, measure
from services.portal.model import Alert, Champion, ProjectStatus, Psi, Status
from services.portal.prometheus import Prometheus

EVENTS: Final = 12


async def gather(http: httpx.AsyncClient, settings: Settings) -> Status:
    """Query every part at once; unavailable parts raise nothing."""
    now = time.time()
    readable, problems = declarations()
    names = [project.name for project in readable]
    away: dict[str, str] = {}
    prometheus = Prometheus(http, settings.prometheus_url, settings.login("prometheus"))
    measured, alerts, models, platform, past = await asyncio.gather(
        measure(prometheus, now, away),
        _alerts(http, prometheus, settings, away),
        _models(http, settings, names, away),
        asyncio.gather(*(parts.probe(http, settings, *part) for part in parts.PARTS)),
        asyncio.to_thread(_past, Store(settings.store), names),
    )
    statuses = [
        *(_project(p, settings, measured, alerts, models.get(p.name), past) for p in readable),
        *(
            ProjectStatus(name=name, title=name, task="", phase=0, description="", problem=problem)
            for name, problem in problems.items()
        ),
    ]
    projects = tuple(replace(project, state=headline.state(project)) for project in statuses)
    sentence, tone = headline.headline(projects, alerts, platform)
    return Status(
        time=now,
        headline=sentence,
        tone=tone,
        parts=tuple(platform),
        stages=stages.stages(platform, projects, measured, alerts, past.latest),
        projects=projects,
        alerts=alerts,
        events=past.events,
        away=tuple(away.values()),
        measured="prometheus" not in away,
        history_seconds=measured.end - measured.start,
        answers=past.answers,
    )


def declared(name: str) -> Project:
    """The project `name`; raises PhaseflowError if there is no such project or its declaration can't be read."""
    try:
        return discovery.get(name)
    except PhaseflowError:
        raise
    except Exception as error:  # project.py is anyone's code
        raise PhaseflowError(
            f"projects/{name}/project.py can't be read: {type(error).__name__}: {error}", fix="Correct it"
        ) from error


def declarations() -> tuple[list[Project], dict[str, str]]:
    """The projects whose declaration can be read, and the problems of the others by name."""
    readable, problems = [], {}
    for name in discovery.names():
        try:
            readable.append(declared(name))
        except PhaseflowError as error:
            problems[name] = str(error)
    return readable, problems


async def _alerts(
    http: httpx.AsyncClient, prometheus: Prometheus, settings: Settings, away: dict[str, str]
) -> tuple[Alert, ...] | None:
    """Pending and firing alerts of Prometheus, otherwise the firing ones of Alertmanager; None if both are unavailable."""
    results = await asyncio.gather(
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
    items = next((result for result in results if isinstance(result, list)), None)
    if items is None:
        away["alerts"] = f"The alerts are unknown: {results[0]}"
        return None
    alerts = [_alert(item) for item in items if isinstance(item, dict)]
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
    """The served model by project, empty if there is none; projects whose service does not respond are missing."""

    async def served(name: str) -> dict[str, Any]:
        response = await source.get(http, "The service", f"{settings.serving(name)}/{name}/model")
        try:
            model = response.json() if response.status_code == 200 else {}  # 503: it has no model of this project
        except ValueError:
            return {}
        return model if isinstance(model, dict) and "version" in model else {}

    results = await asyncio.gather(*map(served, names), return_exceptions=True)
    for result in results:
        if isinstance(result, PhaseflowError):
            away["serving"] = f"The served models are unknown: {result}"
        elif isinstance(result, BaseException):
            raise result
    return {name: result for name, result in zip(names, results, strict=True) if isinstance(result, dict)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """The history from the store."""

    events: tuple[history.Event, ...]
    """The latest events except alerts, which the page shows elsewhere."""
    latest: Mapping[str, history.Event]
    """The newest event of a type, over all projects."""
    verdicts: Mapping[str, Sequence[history.Verdict]]
    reports: Mapping[str, tuple[str, float] | None]
    answers: Mapping[str, str]
    """The retraining hook's decision on the last alert, by project."""


def _past(store: Store, names: Sequence[str]) -> Past:
    recent = [event for name in names for event in history.events(store, name, EVENTS, without=frozenset({"alert"}))]
    newest = {}
    for kind in ("snapshot", "promotion", "retraining"):
        of_kind = [event for name in names if (event := history.latest(store, name, kind))]
        if of_kind:
            newest[kind] = max(of_kind, key=lambda event: event.time)
    return Past(
        events=tuple(sorted(recent, key=lambda event: event.time, reverse=True)[:EVENTS]),
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
    past: Past,
) -> ProjectStatus:
    name = project.name
    verdicts, report = past.verdicts[name], past.reports[name]
    champion = _champion(project, measured, model) if model else None
    psi = {s.labels.get("feature", ""): s.value for s in measured.of("psi", project=name)}
    features = sorted(((value, f) for f, value in psi.items() if f in project.monitored_features), reverse=True)
    p99 = measured.value("p99", project=name)
    firing = {alert.state for alert in alerts or () if alert.project == name and alert.severity != "info"}
    threshold = measured.value("threshold", project=name)
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
        requests_per_second=measured.value("requests", project=name),
        p99_ms=None if p99 is None else p99 * 1000,
        objective_ms=project.objectives.latency_ms,
        error_share=measured.value("errors", project=name),
        psi=tuple(Psi(feature=feature, value=value) for value, feature in features),
        psi_threshold=threshold,
        window_rows=measured.value("window_rows", project=name),
        minimum_rows=measured.value("minimum_rows", project=name),
        alert="" if alerts is None else "firing" if "firing" in firing else "pending" if firing else "quiet",
        responds=model is not None,
        verdict="" if last is None else "promoted" if last.passed or last.confirmed else "refused",
        dag=dag_run(name, measured),
        report=f"{settings.page('monitor')}/reports/{name}/{report[0]}/report.html" if report else "",
        reports=reports.project_page(settings, name) if report else "",
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
        created=measured.value("created", project=project.name, version=version),
        stale=bool(model.get("stale")),
    )


def _spark(measured: Measured, query: str, project: str, *thresholds: float) -> charts.Spark | None:
    series = next((s for s in measured.past.get(query, ()) if s.labels.get("project") == project), None)
    if series is None:
        return None
    return charts.spark(series, measured.start, measured.end, step=STEP, thresholds=thresholds)
