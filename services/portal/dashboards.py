"""Grafana's dashboards without Grafana: the committed JSON, its queries put to Prometheus, as charts.

What is read of Grafana's model (https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model): panels
of the types timeseries, stat, gauge, bargauge, piechart, barchart, table and text, rows, template variables, the time range,
thresholds, value mappings, and annotations by a query.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from phaseflow.errors import PhaseflowError, PlatformError, suggestion
from services.portal import charts, source, text
from services.portal.prometheus import Prometheus, Series

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
POINTS: Final = 240
SCRAPE_SECONDS: Final = 15
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
VALUE: Final = re.compile(r"[\w.:|*+-]{1,200}", re.ASCII)
"""What a page's address may choose for a template variable: nothing that ends the PromQL string in which it is put."""
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::[^}]*)?\}|\$(\w+)|\[\[(\w+)\]\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A dashboard as it is listed."""

    name: str
    title: str

    @property
    def project(self) -> str:
        """The project it is of, by its name: 'phaseflow-house-prices' is of house_prices."""
        return self.name.removeprefix("phaseflow-").replace("-", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """One large figure."""

    name: str
    text: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel with its answer: one of chart, stats, bars, table and text is there, else `problem` or 'no data'."""

    title: str
    description: str
    kind: str
    width: int
    """Of 24 columns."""
    queries: tuple[str, ...]
    problem: str = ""
    chart: charts.Chart | None = None
    stats: tuple[Stat, ...] = ()
    bars: tuple[charts.Bar, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    text: str = ""

    @property
    def empty(self) -> bool:
        """Whether the queries gave nothing."""
        return not (self.chart or self.stats or self.bars or self.rows or self.text or self.kind == "row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A dashboard with its panels' answers, in reading order."""

    name: str
    title: str
    description: str
    range: str
    variables: Mapping[str, str]
    panels: tuple[Panel, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """The time shown, in unix seconds."""

    start: float
    end: float
    step: float


def listed(folder: Path) -> list[Link]:
    """The dashboards of a folder, by title; a file that is not one is left out."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(Link(name=path.stem, title=str(_read(path).get("title") or path.stem)))
        except PlatformError:
            continue
    return sorted(found, key=lambda link: link.title)


def load(folder: Path, name: str) -> dict[str, Any]:
    """The JSON of the dashboard `name`; raises PlatformError when there is none."""
    path = folder / f"{name}.json"
    if not NAME.fullmatch(name) or not path.is_file():
        known = [link.name for link in listed(folder)]
        raise PlatformError(
            f"There is no dashboard {name!r}; found: {', '.join(known) or 'none'}",
            fix=suggestion(name, known) or "Generate them with `make generate`",
        )
    return _read(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PlatformError(f"{path.name} is no JSON: {error}", fix="Generate it again with `make generate`") from error
    if not isinstance(content, dict):
        raise PlatformError(f"{path.name} holds no dashboard", fix="Generate it again with `make generate`")
    return content


async def render(prometheus: Prometheus, name: str, content: Mapping[str, Any], chosen: Mapping[str, str]) -> Dashboard:
    """Ask Prometheus every panel's queries at once; `chosen` are values of template variables (else their defaults).

    Raises PlatformError for a value that can't be a label's.
    """
    for variable, value in chosen.items():
        if not VALUE.fullmatch(value):
            raise PlatformError(
                f"{variable[:80]} is {value[:80]!r}; allowed: letters, digits and _.:|*+-, at most 200",
                fix="Choose a value from the dashboard's own list",
            )
    span = _span(content.get("time") or {})
    problem, variables, marks = "", {}, []
    try:
        await prometheus.ready(source.HASTY)
        span = replace(span, start=await prometheus.began(span.start, span.end, span.step))
        variables = await _variables(prometheus, content, chosen)
        marks = await _annotations(prometheus, content, variables | _macros(span), span)
    except PhaseflowError as error:
        problem = str(error)
    known = variables | _macros(span)

    async def one(panel: Mapping[str, Any]) -> Panel:
        shell = _shell(panel, known)
        if problem:
            return replace(shell, problem="Prometheus is away" if shell.queries else "")
        try:
            return await _fill(prometheus, shell, panel, known, span, marks)
        except PhaseflowError as error:
            return replace(shell, problem=str(error))

    panels = await asyncio.gather(*map(one, _panels(content.get("panels") or ())))
    return Dashboard(
        name=name,
        title=_substitute(str(content.get("title") or name), known),
        description=str(content.get("description") or ""),
        range=f"last {text.span(span.end - span.start)}",
        variables=variables,
        panels=tuple(panels),
        problem=problem,
    )


def _panels(panels: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Panels from the top left on, a collapsed row's own after it."""
    place = lambda p: ((p.get("gridPos") or {}).get("y", 0), (p.get("gridPos") or {}).get("x", 0))  # noqa: E731  # one use
    for panel in sorted(panels, key=place):
        yield panel
        yield from _panels(panel.get("panels") or ())


def _span(range_: Mapping[str, Any]) -> Span:
    """The time shown; 'now-1h' to 'now', other forms give the last hour."""
    match = re.fullmatch(r"now-(\d+)([smhdw])", str(range_.get("from")))
    seconds = int(match[1]) * UNITS[match[2]] if match else 3600
    step = max(5.0, float(round(seconds / POINTS)))
    end = time.time() // step * step
    return Span(end - seconds, end, step)


def _macros(span: Span) -> dict[str, str]:
    """Grafana's own variables; a rate needs four scrapes."""
    seconds = span.end - span.start
    return {
        "__interval": f"{span.step:.0f}s",
        "__interval_ms": f"{span.step * 1000:.0f}",
        "__rate_interval": f"{max(span.step + SCRAPE_SECONDS, 4 * SCRAPE_SECONDS):.0f}s",
        "__range": f"{seconds:.0f}s",
        "__range_s": f"{seconds:.0f}",
        "__from": f"{span.start * 1000:.0f}",
        "__to": f"{span.end * 1000:.0f}",
    }


async def _variables(prometheus: Prometheus, content: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, str]:
    """The value of each template variable: the chosen, the saved, the first that its query finds, or all of them."""
    values: dict[str, str] = {}
    for variable in (content.get("templating") or {}).get("list") or ():
        name, kind = str(variable.get("name") or ""), variable.get("type")
        current = (variable.get("current") or {}).get("value")
        if isinstance(current, list):
            current = "$__all" if "$__all" in current or not current else _any(map(str, current))
        if kind == "datasource" or not name:
            continue
        if name in chosen:
            values[name] = chosen[name]
        elif current not in {None, "", "$__all"}:
            values[name] = str(current)
        elif kind == "query":
            found = await _options(prometheus, variable, values)
            everything = current == "$__all" or variable.get("includeAll") or variable.get("multi")
            values[name] = (variable.get("allValue") or _any(found)) if everything else next(iter(found), "")
        elif kind == "custom" and current == "$__all":
            values[name] = variable.get("allValue") or str(variable.get("query") or "").replace(",", "|").replace(
                " ", ""
            )
        else:
            values[name] = str(variable.get("query") or "").split(",")[0].strip()
    return values


def _any(values: Iterable[str]) -> str:
    """A regular expression of PromQL for one of `values`, to stand between quotes: there, a backslash is two."""
    return "|".join(re.escape(value).replace("\\", r"\\").replace('"', r"\"") for value in values)


async def _options(prometheus: Prometheus, variable: Mapping[str, Any], values: Mapping[str, str]) -> list[str]:
    query = variable.get("query")
    query = str(query.get("query") if isinstance(query, dict) else query or "")
    match = re.fullmatch(r"label_values\((?:(.+),)?\s*(\w+)\s*\)", _substitute(query, values))
    return await prometheus.label_values(match[2], (match[1] or "").strip()) if match else []


async def _annotations(
    prometheus: Prometheus, content: Mapping[str, Any], known: Mapping[str, str], span: Span
) -> list[tuple[float, str]]:
    """Moments at which an annotation's query begins to give a series, or its value changes from zero."""
    marks = []
    for annotation in (content.get("annotations") or {}).get("list") or ():
        expression = annotation.get("expr") or (annotation.get("target") or {}).get("expr")
        if not expression or annotation.get("enable") is False:
            continue
        for series in await prometheus.query_range(_substitute(expression, known), span.start, span.end, span.step):
            title = _legend(annotation.get("titleFormat") or annotation.get("name") or "", series.labels, known)
            before = span.start
            for at, value in series.points:
                if value and at - before > 1.5 * span.step:
                    marks.append((at, title))
                before = at if value else before
    return marks


def _shell(panel: Mapping[str, Any], known: Mapping[str, str]) -> Panel:
    kind = str(panel.get("type") or "")
    queries = [
        _substitute(str(t["expr"]), known) for t in panel.get("targets") or () if t.get("expr") and not t.get("hide")
    ]
    return Panel(
        title=_substitute(str(panel.get("title") or ""), known),
        description=_substitute(str(panel.get("description") or ""), known),
        kind=kind,
        width=24 if kind == "row" else int((panel.get("gridPos") or {}).get("w") or 12),
        queries=tuple(queries),
        text=_substitute(str((panel.get("options") or {}).get("content") or ""), known) if kind == "text" else "",
    )


async def _fill(
    prometheus: Prometheus,
    shell: Panel,
    panel: Mapping[str, Any],
    known: Mapping[str, str],
    span: Span,
    marks: Sequence[tuple[float, str]],
) -> Panel:
    if not shell.queries:
        return shell
    targets = [t for t in panel.get("targets") or () if t.get("expr") and not t.get("hide")]
    defaults = (panel.get("fieldConfig") or {}).get("defaults") or {}
    over_time = shell.kind not in {"stat", "gauge", "bargauge", "piechart", "barchart", "table"}
    asked = [
        prometheus.query_range(query, span.start, span.end, span.step) if over_time else prometheus.query(query)
        for query in shell.queries
    ]
    answers = await asyncio.gather(*asked)
    if shell.kind == "table":
        columns, rows = _table(answers, targets, panel, defaults)
        return replace(shell, columns=columns, rows=rows)
    named = [
        (_name(target, series, known, panel), series)
        for target, answer in zip(targets, answers, strict=True)
        for series in answer
    ]
    if not named:
        return shell
    unit, decimals = str(defaults.get("unit") or ""), defaults.get("decimals")
    if over_time:
        return replace(shell, chart=_chart(named, panel, defaults, span, marks))
    if shell.kind in {"stat", "gauge"}:
        options = panel.get("options") or {}
        mode, coloured = options.get("textMode", "auto"), options.get("colorMode") != "none"
        told = len(named) > 1 or any(_has_legend(target) for target in targets)
        stats = [
            Stat(
                name=name if told and mode not in {"name", "value", "none"} else "",
                text=name if mode == "name" else _value(series.value, unit, decimals, defaults),
                tone=_tone(series.value, defaults) if coloured else "",
            )
            for name, series in named
        ]
        return replace(shell, stats=tuple(stats))
    items = [(name, series.value, _value(series.value, unit, decimals, defaults)) for name, series in named]
    drawn = charts.bars(items, most=defaults.get("max"))
    toned = [replace(bar, tone=_tone(value, defaults)) for bar, (_, value, _) in zip(drawn, items, strict=True)]
    return replace(shell, bars=tuple(sorted(toned, key=lambda bar: -bar.share)))


def _chart(
    named: Sequence[tuple[str, Series]],
    panel: Mapping[str, Any],
    defaults: Mapping[str, Any],
    span: Span,
    marks: Sequence[tuple[float, str]],
) -> charts.Chart:
    custom = defaults.get("custom") or {}
    styled = (custom.get("thresholdsStyle") or {}).get("mode", "off") != "off"
    return charts.time_series(
        named,
        span.start,
        span.end,
        step=span.step,
        unit=str(defaults.get("unit") or ""),
        decimals=defaults.get("decimals"),
        floor=defaults.get("min"),
        ceiling=defaults.get("max"),
        thresholds=[step["value"] for step in _steps(defaults) if step.get("value")] if styled else (),
        marks=marks,
        stacked=(custom.get("stacking") or {}).get("mode", "none") in {"normal", "percent"}
        or panel.get("stack") is True,
        filled=bool(custom.get("fillOpacity")),
    )


def _table(
    answers: Sequence[Sequence[Series]],
    targets: Sequence[Mapping[str, Any]],
    panel: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Rows of labels and values; queries with the same labels share a row, as Grafana's 'merge' does."""
    organize: Mapping[str, Any] = next(
        (t.get("options") or {} for t in panel.get("transformations") or () if t.get("id") == "organize"), {}
    )
    values = ["Value" if len(targets) == 1 else f"Value #{t.get('refId', chr(65 + i))}" for i, t in enumerate(targets)]
    units = _overrides(panel)
    merged: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for column, answer in zip(values, answers, strict=True):
        renamed = (organize.get("renameByName") or {}).get(column, column)
        unit = units.get(column) or units.get(renamed) or str(defaults.get("unit") or "")
        for series in answer:
            labels = {k: v for k, v in series.labels.items() if k != "__name__"}
            row = merged.setdefault(tuple(sorted(labels.items())), dict(labels))
            row[column] = _value(series.value, unit, defaults.get("decimals"), defaults)
    excluded = {name for name, gone in (organize.get("excludeByName") or {}).items() if gone} | {
        "Time",
        "job",
        "instance",
    }
    labels_found = sorted({name for row in merged.values() for name in row} - set(values))
    order = organize.get("indexByName") or {}
    columns = [name for name in (*labels_found, *values) if name not in excluded]
    columns.sort(key=lambda name: order.get(name, len(order)))
    rows = tuple(tuple(row.get(name, "") for name in columns) for row in merged.values())
    return tuple((organize.get("renameByName") or {}).get(name) or name for name in columns), rows


def _overrides(panel: Mapping[str, Any]) -> dict[str, str]:
    """Units that a column has of its own."""
    found = {}
    for override in (panel.get("fieldConfig") or {}).get("overrides") or ():
        for its in override.get("properties") or ():
            if its.get("id") == "unit" and (override.get("matcher") or {}).get("id") == "byName":
                found[str(override["matcher"].get("options"))] = str(its.get("value"))
    return found


def _name(target: Mapping[str, Any], series: Series, known: Mapping[str, str], panel: Mapping[str, Any]) -> str:
    """The legend: the target's format, else the labels."""
    if _has_legend(target):
        return _legend(str(target["legendFormat"]), series.labels, known)
    labels = {k: v for k, v in series.labels.items() if k not in {"__name__", "job", "instance"}}
    return ", ".join(labels.values()) or str(series.labels.get("__name__") or panel.get("title") or "")


def _has_legend(target: Mapping[str, Any]) -> bool:
    return target.get("legendFormat") not in {None, "", "__auto"}


def _legend(form: str, labels: Mapping[str, str], known: Mapping[str, str]) -> str:
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), _substitute(form, known))


def _substitute(words: str, known: Mapping[str, str]) -> str:
    """Template variables replaced; one that is unknown stays as it is, so that the query's error shows it."""
    return _VARIABLE.sub(lambda match: known.get(match[1] or match[2] or match[3], match[0]), words)


def _value(value: float, unit: str, decimals: int | None, defaults: Mapping[str, Any]) -> str:
    """A value's mapped text, else the figure in its unit."""
    for mapping in defaults.get("mappings") or ():
        options = mapping.get("options") or {}
        if mapping.get("type") == "value":
            mapped = options.get(f"{value:g}") or {}
        elif mapping.get("type") == "range":
            low, high = options.get("from"), options.get("to")
            within = (low is None or value >= low) and (high is None or value <= high)
            mapped = (options.get("result") or {}) if within else {}
        else:
            continue
        if mapped.get("text"):
            return str(mapped["text"])
    return text.figure(value, unit, decimals)


def _steps(defaults: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((defaults.get("thresholds") or {}).get("steps") or ())


def _tone(value: float, defaults: Mapping[str, Any]) -> str:
    """The colour of the highest threshold at or below `value`."""
    reached = [step for step in _steps(defaults) if step.get("value") is None or value >= step["value"]]
    colour = str(reached[-1].get("color") or "") if len(_steps(defaults)) > 1 and reached else ""
    for part, tone in (("green", "ok"), ("red", "bad"), ("yellow", "warn"), ("orange", "warn"), ("blue", "active")):
        if part in colour:
            return tone
    return ""
