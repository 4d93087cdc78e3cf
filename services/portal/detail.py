"""The details of one project: its verdicts, versions, drift, traffic and predictions."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from phaseflow import Metric, Project, discovery
from phaseflow.errors import PhaseflowError
from phaseflow.prediction_types import monitored_names
from phaseflow.settings import Settings
from phaseflow.store import Store
from services.portal import charts, history, source, text
from services.portal.measure import ANSWERS
from services.portal.prometheus import Prometheus, Series

SPAN_SECONDS: Final = 3600.0
STEP: Final = 10.0
VERDICTS: Final = 6
EVENTS: Final = 20
PREDICTIONS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A chart with its title; if there is no data, the page shows `query` instead."""

    title: str
    query: str
    plot: charts.Plot | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A metric of the last challenger and of the champion on the same holdout; `better` is challenger, champion or empty."""

    metric: str
    direction: str
    challenger: float | None
    champion: float | None
    better: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A registered version from a verdict; `aliases` are the ones that the service has loaded."""

    version: str
    candidate: str
    passed: bool
    metric: float | None
    created: float
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """The content of a project's page besides its status."""

    verdicts: tuple[history.Verdict, ...]
    comparison: tuple[Comparison, ...]
    versions: tuple[Version, ...]
    plots: tuple[Plot, ...]
    drift: tuple[charts.Bar, ...]
    predictions: tuple[charts.Bar, ...]
    events: tuple[history.Event, ...]
    call: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartQuery:
    """The query of a chart, and how its result is drawn."""

    title: str
    query: str
    unit: str = ""
    thresholds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Results of Prometheus: `past` in the order of the chart queries, between two times in Unix seconds; the others are current."""

    start: float
    end: float
    past: Sequence[list[Series]]
    psi: Sequence[Series] = ()
    live: Sequence[Series] = ()
    reference: Sequence[Series] = ()
    versions: Sequence[Series] = ()


async def gather(prometheus: Prometheus, settings: Settings, project: Project) -> Detail:
    """Read the store and query Prometheus; values of unavailable parts are empty."""
    queries = chart_queries(project)
    (verdicts, events), measured = await asyncio.gather(
        asyncio.to_thread(_past, Store(settings.store), project.name), _measure(prometheus, project.name, queries)
    )
    aliases: dict[str, list[str]] = {}
    for series in measured.versions:
        aliases.setdefault(series.labels.get("version", ""), []).append(series.labels.get("alias", ""))
    worst = sorted(((s.labels.get("feature", ""), s.value) for s in measured.psi), key=lambda item: -item[1])
    marks = [(event.time, event.summary) for event in events if event.type in {"promotion", "rollback", "retraining"}]
    return Detail(
        verdicts=tuple(verdicts),
        comparison=_compare(project.metrics, verdicts[0]) if verdicts else (),
        versions=_versions(project, verdicts, aliases),
        plots=tuple(_plot(q, series, measured, marks) for q, series in zip(queries, measured.past, strict=True)),
        drift=tuple(charts.bars([(name, value, f"{value:.3f}") for name, value in worst], rule=project.drift.psi)),
        predictions=_mix(measured.live, measured.reference),
        events=tuple(events),
        call=call(settings, project),
    )


def chart_queries(project: Project) -> tuple[ChartQuery, ...]:
    """The queries of a project's charts."""
    own = f'project="{project.name}"'
    seconds = f"sum by (le) (rate(phaseflow_request_duration_seconds_bucket{{{own},{ANSWERS}}}[1m]))"
    return (
        ChartQuery(
            title="Drift: PSI per feature",
            query=f"max by (feature) (phaseflow:feature_psi{{{own}}})",
            thresholds=(project.drift.psi,),
        ),
        ChartQuery(
            title="Requests by status code",
            query=f"sum by (code) (rate(phaseflow_requests_total{{{own},{ANSWERS}}}[1m]))",
            unit="reqps",
        ),
        ChartQuery(title="Latency, 99th percentile", query=f"histogram_quantile(0.99, {seconds})", unit="s"),
        ChartQuery(
            title="Live error on labelled predictions",
            query=f"max by (slice, value) (phaseflow:live_loss{{{own}}})",
        ),
    )


def call(settings: Settings, project: Project) -> str:
    """The shell command that requests a prediction for the project's example."""
    body = json.dumps(dict(project.example), ensure_ascii=False, default=str)
    return f"curl -s {settings.page('serving')}/{project.name}/predict \\\n  -H 'content-type: application/json' \\\n  -d {shlex.quote(body)}"


def _past(store: Store, name: str) -> tuple[list[history.Verdict], list[history.Event]]:
    return history.verdicts(store, name, VERDICTS), history.events(store, name, EVENTS, without=frozenset({"alert"}))


async def _measure(prometheus: Prometheus, name: str, queries: Sequence[ChartQuery]) -> Measured:
    own = f'project="{name}"'
    prediction, *_ = monitored_names(
        discovery.get(name).schema.target
    )  # if a prediction has several descriptors, the first one
    predicted = f'{own},feature="{prediction}"'
    champion = f'and on (version) phaseflow_model_info{{{own},alias="champion"}}'
    now = (
        f"phaseflow:feature_psi{{{own}}}",
        f"sum by (bin) (increase(phaseflow_feature_bin_total{{{predicted}}}[15m]) {champion})",
        f"max by (bin) (phaseflow_feature_bin_reference{{{predicted}}} {champion})",
        f"phaseflow_model_info{{{own}}}",
    )
    end = time.time() // STEP * STEP
    start = end - SPAN_SECONDS
    try:
        await prometheus.ready(source.HASTY)
        start = await prometheus.first_sample_time(start, end, STEP)
    except PhaseflowError:
        return Measured(start=start, end=end, past=[[] for _ in queries])
    responses = await asyncio.gather(
        *(prometheus.query_range(chart_query.query, start, end, STEP) for chart_query in queries),
        *(prometheus.query(query) for query in now),
        return_exceptions=True,
    )
    results = [[] if isinstance(response, BaseException) else response for response in responses]
    psi, live, reference, versions = results[len(queries) :]
    return Measured(
        start=start,
        end=end,
        past=results[: len(queries)],
        psi=psi,
        live=live,
        reference=reference,
        versions=versions,
    )


def _plot(
    chart_query: ChartQuery, series: Sequence[Series], measured: Measured, marks: Sequence[tuple[float, str]]
) -> Plot:
    lines = [(" ".join(filter(None, dict.fromkeys(s.labels.values()))) or "p99", s) for s in series]
    plot = charts.plot(
        lines,
        measured.start,
        measured.end,
        step=STEP,
        unit=chart_query.unit,
        floor=0,
        thresholds=chart_query.thresholds,
        marks=marks,
        filled=True,
    )
    return Plot(title=chart_query.title, query=chart_query.query, plot=plot if lines else None)


def _compare(metrics: Sequence[Metric], verdict: history.Verdict) -> tuple[Comparison, ...]:
    rows = []
    for metric in metrics:
        new, old = verdict.metrics.get(metric.name), verdict.champion_metrics.get(metric.name)
        better = ""
        if new is not None and old is not None and new != old:
            better = "challenger" if metric.better(new, old) else "champion"
        rows.append(
            Comparison(metric=metric.name, direction=metric.direction, challenger=new, champion=old, better=better)
        )
    return tuple(rows)


def _versions(
    project: Project, verdicts: Sequence[history.Verdict], aliases: Mapping[str, Sequence[str]]
) -> tuple[Version, ...]:
    versions: dict[str, Version] = {}
    for verdict in verdicts:
        if verdict.confirmed:
            versions[verdict.confirmed] = Version(
                version=verdict.confirmed,
                candidate=verdict.champion_candidate,
                passed=True,
                metric=verdict.champion_metrics.get(project.primary.name),
                created=verdict.created,
                aliases=tuple(sorted(aliases.get(verdict.confirmed, ()))),
            )
        if verdict.version and verdict.version not in versions:
            versions[verdict.version] = Version(
                version=verdict.version,
                candidate=verdict.candidate,
                passed=verdict.passed,
                metric=verdict.metrics.get(project.primary.name),
                created=verdict.created,
                aliases=tuple(sorted(aliases.get(verdict.version, ()))),
            )
    return tuple(versions.values())


def _mix(live: Sequence[Series], reference: Sequence[Series]) -> tuple[charts.Bar, ...]:
    """The share of each prediction bin in the last 15 minutes, next to its share in the training data."""
    expected = {s.labels.get("bin", ""): s.value for s in reference}
    counts = {s.labels.get("bin", ""): s.value for s in live}
    total = sum(counts.values())
    if not total:
        return ()
    names = [n for n in dict.fromkeys((*expected, *counts)) if counts.get(n, 0) > 0 or expected.get(n, 0) > 0]
    shares = {name: counts.get(name, 0.0) / total for name in names}
    top = max([*shares.values(), *(expected.get(n, 0.0) for n in names)])
    return tuple(
        charts.Bar(
            name=name,
            share=shares[name] / top,
            text=text.figure(shares[name], "percentunit"),
            other=expected[name] / top if name in expected else None,
        )
        for name in names[:PREDICTIONS]
    )
