"""Grafana's dashboards without Grafana: runs the queries of the committed JSON against Prometheus and draws the results.

Supported parts of Grafana's model (https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model):
panels of the types timeseries, stat and table, rows, template variables, the time range, thresholds, and annotations that are queries.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from phaseflow.errors import PhaseflowError, PlatformError, suggestion
from services.portal import charts, source, text
from services.portal.prometheus import Prometheus, Series
from services.portal.variables import Span, check, legend, macros, substitute, values

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
POINTS: Final = 240
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
KINDS: Final = ("timeseries", "stat", "table")
TONES: Final = {"green": "ok", "red": "bad", "yellow": "warn", "orange": "warn", "blue": "active"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An entry in the list of dashboards."""

    name: str
    title: str

    @property
    def project(self) -> str:
        """The project of the dashboard: `house_prices` for the name `phaseflow-house-prices`."""
        return self.name.removeprefix("phaseflow-").replace("-", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """A single large number."""

    name: str
    text: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel with its data: one of plot, stats or rows; without data, `problem` is the reason."""

    title: str
    description: str
    kind: str
    width: int
    """Width in columns, of 24."""
    queries: tuple[str, ...]
    problem: str = ""
    plot: charts.Plot | None = None
    stats: tuple[Stat, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A dashboard with its panels in reading order."""

    name: str
    title: str
    description: str
    range: str
    variables: Mapping[str, str]
    panels: tuple[Panel, ...]
    marks: tuple[charts.Mark, ...] = ()
    """Annotations, which every plot shows."""
    problem: str = ""


def listed(folder: Path) -> list[Link]:
    """The dashboards in a folder, sorted by title; files that are not dashboards are skipped."""
    links = []
    for path in sorted(folder.glob("*.json")):
        try:
            links.append(Link(name=path.stem, title=str(_read(path).get("title") or path.stem)))
        except PlatformError:
            continue
    return sorted(links, key=lambda link: link.title)


def load(folder: Path, name: str) -> dict[str, Any]:
    """The JSON of the dashboard `name`; raises PlatformError if there is no such dashboard."""
    path = folder / f"{name}.json"
    if not NAME.fullmatch(name) or not path.is_file():
        names = [link.name for link in listed(folder)]
        raise PlatformError(
            f"There is no dashboard {name!r}; available: {', '.join(names) or 'none'}",
            fix=suggestion(name, names) or "Generate them with `make generate`",
        )
    return _read(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PlatformError(
            f"{path.name} is not valid JSON: {error}", fix="Generate it again with `make generate`"
        ) from error
    if not isinstance(content, dict):
        raise PlatformError(f"{path.name} does not contain a dashboard", fix="Generate it again with `make generate`")
    return content


async def render(
    prometheus: Prometheus, name: str, content: Mapping[str, Any], selected: Mapping[str, str]
) -> Dashboard:
    """Run every panel's queries concurrently; `selected` are values of template variables, which otherwise have their defaults.

    Raises PlatformError for a value that can't be the value of a label.
    """
    check(selected)
    span = _span(content.get("time") or {})
    problem, variables, marks = "", {}, []
    try:
        await prometheus.ready(source.HASTY)
        span = replace(span, start=await prometheus.first_sample_time(span.start, span.end, span.step))
        variables = await values(prometheus, content, selected)
        marks = await _annotations(prometheus, content, variables | macros(span), span)
    except PhaseflowError as error:
        problem = str(error)
    substitutions = variables | macros(span)

    async def render_panel(panel: Mapping[str, Any]) -> Panel:
        shell = _shell(panel, substitutions)
        if problem:
            return replace(shell, problem="Prometheus is unavailable" if shell.queries else "")
        try:
            return await _fill(prometheus, shell, panel, substitutions, span, marks)
        except PhaseflowError as error:
            return replace(shell, problem=str(error))

    panels = await asyncio.gather(*map(render_panel, _panels(content.get("panels") or ())))
    return Dashboard(
        name=name,
        title=substitute(str(content.get("title") or name), substitutions),
        description=str(content.get("description") or ""),
        range=f"last {text.span(span.end - span.start)}",
        variables=variables,
        panels=tuple(panels),
        marks=tuple(charts.Mark(time=at, text=title) for at, title in sorted(marks)),
        problem=problem,
    )


def _panels(panels: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The panels from top left to bottom right; the panels of a collapsed row follow it."""
    position = lambda p: ((p.get("gridPos") or {}).get("y", 0), (p.get("gridPos") or {}).get("x", 0))  # noqa: E731  # one use
    for panel in sorted(panels, key=position):
        yield panel
        yield from _panels(panel.get("panels") or ())


def _span(range_: Mapping[str, Any]) -> Span:
    """The time range from 'now-1h' (or another span) to now; any other form gives the last hour."""
    match = re.fullmatch(r"now-(\d+)([smhdw])", str(range_.get("from")))
    seconds = int(match[1]) * UNITS[match[2]] if match else 3600
    step = max(5.0, float(round(seconds / POINTS)))
    end = time.time() // step * step
    return Span(end - seconds, end, step)


async def _annotations(
    prometheus: Prometheus, content: Mapping[str, Any], substitutions: Mapping[str, str], span: Span
) -> list[tuple[float, str]]:
    """Times at which the query of an annotation starts to return a series, or its value changes from zero."""
    marks = []
    for annotation in (content.get("annotations") or {}).get("list") or ():
        expression = annotation.get("expr") or (annotation.get("target") or {}).get("expr")
        if not expression or annotation.get("enable") is False:
            continue
        for series in await prometheus.query_range(
            substitute(expression, substitutions), span.start, span.end, span.step
        ):
            title = legend(annotation.get("titleFormat") or annotation.get("name") or "", series.labels, substitutions)
            before = span.start
            for at, value in series.points:
                if value and at - before > 1.5 * span.step:
                    marks.append((at, title))
                before = at if value else before
    return marks


def _shell(panel: Mapping[str, Any], substitutions: Mapping[str, str]) -> Panel:
    kind = str(panel.get("type") or "")
    return Panel(
        title=substitute(str(panel.get("title") or ""), substitutions),
        description=substitute(str(panel.get("description") or ""), substitutions),
        kind=kind,
        width=24 if kind == "row" else int((panel.get("gridPos") or {}).get("w") or 12),
        queries=tuple(substitute(str(target["expr"]), substitutions) for target in _targets(panel)),
    )


def _targets(panel: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [target for target in panel.get("targets") or () if target.get("expr") and not target.get("hide")]


async def _fill(
    prometheus: Prometheus,
    shell: Panel,
    panel: Mapping[str, Any],
    substitutions: Mapping[str, str],
    span: Span,
    marks: Sequence[tuple[float, str]],
) -> Panel:
    if shell.kind == "row":
        return shell
    if shell.kind not in KINDS:
        return replace(
            shell,
            problem=f"The portal can't draw panels of the type {shell.kind!r}; supported: {', '.join(KINDS)}. "
            "Open the dashboard in Grafana.",
        )
    over_time = shell.kind == "timeseries"
    calls = [
        prometheus.query_range(query, span.start, span.end, span.step) if over_time else prometheus.query(query)
        for query in shell.queries
    ]
    results = await asyncio.gather(*calls)
    targets, defaults = _targets(panel), (panel.get("fieldConfig") or {}).get("defaults") or {}
    if shell.kind == "table":
        columns, rows = _table(results, targets, str(defaults.get("unit") or ""))
        return replace(shell, columns=columns, rows=rows)
    lines = [
        (_name(target, series, substitutions, shell.title), series)
        for target, result in zip(targets, results, strict=True)
        for series in result
    ]
    if not lines:
        return shell
    if over_time:
        return replace(shell, plot=_plot(lines, defaults, span, marks))
    named = len(lines) > 1 or any(_has_legend(target) for target in targets)
    return replace(shell, stats=_stats(lines, panel.get("options") or {}, defaults, named=named))


def _plot(
    lines: Sequence[tuple[str, Series]], defaults: Mapping[str, Any], span: Span, marks: Sequence[tuple[float, str]]
) -> charts.Plot:
    custom = defaults.get("custom") or {}
    show_thresholds = (custom.get("thresholdsStyle") or {}).get("mode", "off") != "off"
    return charts.plot(
        lines,
        span.start,
        span.end,
        step=span.step,
        unit=str(defaults.get("unit") or ""),
        floor=defaults.get("min"),
        thresholds=[step["value"] for step in _steps(defaults) if step.get("value")] if show_thresholds else (),
        marks=marks,
        filled=bool(custom.get("fillOpacity")),
    )


def _stats(
    lines: Sequence[tuple[str, Series]], options: Mapping[str, Any], defaults: Mapping[str, Any], *, named: bool
) -> tuple[Stat, ...]:
    """A number per series, or its name if the panel shows names instead of values."""
    mode, unit = options.get("textMode", "auto"), str(defaults.get("unit") or "")
    return tuple(
        Stat(
            name=name if named and mode not in {"name", "value", "none"} else "",
            text=name if mode == "name" else text.figure(series.value, unit),
            tone=_tone(series.value, defaults) if options.get("colorMode") != "none" else "",
        )
        for name, series in lines
    )


def _table(
    results: Sequence[Sequence[Series]], targets: Sequence[Mapping[str, Any]], unit: str
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Columns and rows of labels and values; results with the same labels share a row."""
    names = ["Value" if len(targets) == 1 else f"Value #{t.get('refId', chr(65 + i))}" for i, t in enumerate(targets)]
    rows_by_labels: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for column, result in zip(names, results, strict=True):
        for series in result:
            labels = {k: v for k, v in series.labels.items() if k not in {"__name__", "job", "instance"}}
            row = rows_by_labels.setdefault(tuple(sorted(labels.items())), dict(labels))
            row[column] = text.figure(series.value, unit)
    labels_shown = sorted({name for row in rows_by_labels.values() for name in row} - set(names))
    columns = (*labels_shown, *names)
    return columns, tuple(tuple(row.get(name, "") for name in columns) for row in rows_by_labels.values())


def _name(target: Mapping[str, Any], series: Series, substitutions: Mapping[str, str], title: str) -> str:
    """The legend of a series: the target's format, otherwise the labels."""
    if _has_legend(target):
        return legend(str(target["legendFormat"]), series.labels, substitutions)
    labels = {k: v for k, v in series.labels.items() if k not in {"__name__", "job", "instance"}}
    return ", ".join(labels.values()) or str(series.labels.get("__name__") or title)


def _has_legend(target: Mapping[str, Any]) -> bool:
    return target.get("legendFormat") not in {None, "", "__auto"}


def _steps(defaults: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((defaults.get("thresholds") or {}).get("steps") or ())


def _tone(value: float, defaults: Mapping[str, Any]) -> str:
    """The colour of the highest threshold at or below `value`."""
    reached = [step for step in _steps(defaults) if step.get("value") is None or value >= step["value"]]
    colour = str(reached[-1].get("color") or "") if len(_steps(defaults)) > 1 and reached else ""
    return next((tone for part, tone in TONES.items() if part in colour), "")
