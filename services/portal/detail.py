"""One project in depth: its verdicts, versions, drift, traffic and predictions."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from phaseflow import Metric, Project, registry
from phaseflow.answers import watched
from phaseflow.errors import PhaseflowError
from phaseflow.settings import Settings
from phaseflow.store import Store
from services.portal import charts, history, source, text
from services.portal.prometheus import Prometheus, Series
from services.portal.status import ANSWERS

SPAN_SECONDS: Final = 3600.0
STEP: Final = 10.0
VERDICTS: Final = 6
EVENTS: Final = 20
PREDICTIONS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A chart with its title; `query` is said where it is empty."""

    title: str
    query: str
    chart: charts.Chart | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One metric of the last challenger and of the champion on the same holdout; `better` is challenger, champion or empty."""

    metric: str
    direction: str
    challenger: float | None
    champion: float | None
    better: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A registered version that a verdict tells of; `aliases` are those that the service loaded."""

    version: str
    candidate: str
    passed: bool
    metric: float | None
    created: float
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """What the page of a project shows beside its status."""

    verdicts: tuple[history.Verdict, ...]
    comparison: tuple[Comparison, ...]
    versions: tuple[Version, ...]
    plots: tuple[Plot, ...]
    drift: tuple[charts.Bar, ...]
    predictions: tuple[charts.Bar, ...]
    events: tuple[history.Event, ...]
    call: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A chart to be: what Prometheus is asked, and how the answer is drawn."""

    title: str
    query: str
    unit: str = ""
    thresholds: tuple[float, ...] = ()
    stacked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Prometheus's answers: `past` in the order of the questions, between two times in unix seconds; the rest is now."""

    start: float
    end: float
    past: Sequence[list[Series]]
    psi: Sequence[Series] = ()
    live: Sequence[Series] = ()
    reference: Sequence[Series] = ()
    versions: Sequence[Series] = ()


async def gather(prometheus: Prometheus, settings: Settings, project: Project) -> Detail:
    """Read the store and ask Prometheus; what is away is empty."""
    asked = questions(project)
    (verdicts, events), measured = await asyncio.gather(
        asyncio.to_thread(_past, Store(settings.store), project.name), _measure(prometheus, project.name, asked)
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
        plots=tuple(_plot(q, series, measured, marks) for q, series in zip(asked, measured.past, strict=True)),
        drift=tuple(charts.bars([(name, value, f"{value:.3f}") for name, value in worst], rule=project.drift.psi)),
        predictions=_mix(measured.live, measured.reference),
        events=tuple(events),
        call=call(settings, project),
    )


def questions(project: Project) -> tuple[Question, ...]:
    """The charts of a project."""
    own = f'project="{project.name}"'
    seconds = f"sum by (le) (rate(phaseflow_request_duration_seconds_bucket{{{own},{ANSWERS}}}[1m]))"
    return (
        Question(
            title="Drift: PSI a feature",
            query=f"max by (feature) (phaseflow:feature_psi{{{own}}})",
            thresholds=(project.drift.psi,),
        ),
        Question(
            title="Requests by answer",
            query=f"sum by (code) (rate(phaseflow_requests_total{{{own},{ANSWERS}}}[1m]))",
            unit="reqps",
            stacked=True,
        ),
        Question(title="Latency, 99th percentile", query=f"histogram_quantile(0.99, {seconds})", unit="s"),
        Question(
            title="Live error, where the truth came back",
            query=f"max by (slice, value) (phaseflow:live_loss{{{own}}})",
        ),
    )


def call(settings: Settings, project: Project) -> str:
    """The shell command that asks the service for the example's prediction."""
    body = json.dumps(dict(project.example), ensure_ascii=False, default=str)
    return f"curl -s {settings.page('serving')}/{project.name}/predict \\\n  -H 'content-type: application/json' \\\n  -d {shlex.quote(body)}"


def _past(store: Store, name: str) -> tuple[list[history.Verdict], list[history.Event]]:
    return history.verdicts(store, name, VERDICTS), history.events(store, name, EVENTS, without=frozenset({"alert"}))


async def _measure(prometheus: Prometheus, name: str, asked: Sequence[Question]) -> Measured:
    own = f'project="{name}"'
    said, *_ = watched(registry.get(name).schema.target)  # of what has several figures the first one
    predicted = f'{own},feature="{said}"'
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
        start = await prometheus.began(start, end, STEP)
    except PhaseflowError:
        return Measured(start=start, end=end, past=[[] for _ in asked])
    answers = await asyncio.gather(
        *(prometheus.query_range(question.query, start, end, STEP) for question in asked),
        *(prometheus.query(query) for query in now),
        return_exceptions=True,
    )
    found = [[] if isinstance(answer, BaseException) else answer for answer in answers]
    psi, live, reference, versions = found[len(asked) :]
    return Measured(
        start=start,
        end=end,
        past=found[: len(asked)],
        psi=psi,
        live=live,
        reference=reference,
        versions=versions,
    )


def _plot(question: Question, series: Sequence[Series], measured: Measured, marks: Sequence[tuple[float, str]]) -> Plot:
    named = [(" ".join(filter(None, dict.fromkeys(s.labels.values()))) or "p99", s) for s in series]
    chart = charts.time_series(
        named,
        measured.start,
        measured.end,
        step=STEP,
        unit=question.unit,
        floor=0,
        thresholds=question.thresholds,
        marks=marks,
        stacked=question.stacked,
    )
    return Plot(title=question.title, query=question.query, chart=chart if named else None)


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
    seen: dict[str, Version] = {}
    for verdict in verdicts:
        if verdict.confirmed:
            seen[verdict.confirmed] = Version(
                version=verdict.confirmed,
                candidate=verdict.champion_candidate,
                passed=True,
                metric=verdict.champion_metrics.get(project.primary.name),
                created=verdict.created,
                aliases=tuple(sorted(aliases.get(verdict.confirmed, ()))),
            )
        if verdict.version and verdict.version not in seen:
            seen[verdict.version] = Version(
                version=verdict.version,
                candidate=verdict.candidate,
                passed=verdict.passed,
                metric=verdict.metrics.get(project.primary.name),
                created=verdict.created,
                aliases=tuple(sorted(aliases.get(verdict.version, ()))),
            )
    return tuple(seen.values())


def _mix(live: Sequence[Series], reference: Sequence[Series]) -> tuple[charts.Bar, ...]:
    """Shares of the predictions' bins in the last quarter of an hour, each beside the training's."""
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
