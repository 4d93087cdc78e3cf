"""Charts as data: plots, which uPlot draws in the browser, and small drawings, which the templates draw."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.portal import text
from services.portal.prometheus import Series

WIDTH: Final = 1000.0
HEIGHT: Final = 300.0
"""A spark's drawing is stretched to the available space."""
COLOURS: Final = 8
MAX_SERIES: Final = 24
"""Maximum number of series in one plot; the rest is only counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A series of a plot: a value per time, None if there is none, and its last, least and greatest value as text."""

    name: str
    colour: int
    values: tuple[float | None, ...]
    last: str
    low: str
    high: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A marked time, in Unix seconds."""

    time: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Lines at `count` times from `start` (Unix seconds), `step` seconds apart."""

    lines: tuple[Line, ...]
    start: float
    step: float
    count: int
    unit: str = ""
    floor: float | None = None
    """The lower end of the y axis; None follows the values."""
    thresholds: tuple[float, ...] = ()
    marks: tuple[Mark, ...] = ()
    filled: bool = False
    omitted: int = 0

    @property
    def data(self) -> str:
        """The JSON that `static/plots.js` reads."""
        content = {
            "start": self.start,
            "step": self.step,
            "count": self.count,
            "scale": text.scale(self.unit),
            "floor": self.floor,
            "thresholds": self.thresholds,
            "marks": [(mark.time, mark.text) for mark in self.marks],
            "filled": self.filled,
            "lines": [{"name": line.name, "values": line.values} for line in self.lines],
        }
        return json.dumps(content, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spark:
    """A small drawing of one series: SVG paths of the line and of the area below it, and the heights of thresholds."""

    path: str
    area: str
    rules: tuple[float, ...] = ()
    width: float = WIDTH
    height: float = HEIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar whose length is `share` (0 to 1) of the available space; `rule` is the position of a threshold on the same scale."""

    name: str
    share: float
    text: str
    tone: str = ""
    rule: float | None = None
    other: float | None = None
    """A value to compare with, on the same scale."""


def plot(
    series: Sequence[tuple[str, Series]],
    start: float,
    end: float,
    *,
    step: float,
    unit: str = "",
    floor: float | None = None,
    thresholds: Sequence[float] = (),
    marks: Sequence[tuple[float, str]] = (),
    filled: bool = False,
) -> Plot:
    """A plot of `series` (name and points) between two times in Unix seconds; a point belongs to the nearest of the plot's times."""
    count = round((end - start) / step) + 1
    lines = []
    for index, (name, line) in enumerate(series[:MAX_SERIES]):
        row: list[float | None] = [None] * count
        for at, value in line.points:
            if 0 <= (position := round((at - start) / step)) < count:
                row[position] = float(f"{value:.6g}")
        numbers = [value for _, value in line.points]
        lines.append(
            Line(
                name=name,
                colour=index % COLOURS,
                values=tuple(row),
                last=text.figure(numbers[-1], unit),
                low=text.figure(min(numbers), unit),
                high=text.figure(max(numbers), unit),
            )
        )
    return Plot(
        lines=tuple(lines),
        start=start,
        step=step,
        count=count,
        unit=unit,
        floor=floor,
        thresholds=tuple(thresholds),
        marks=tuple(Mark(time=at, text=label) for at, label in marks if start <= at <= end),
        filled=filled,
        omitted=max(0, len(series) - MAX_SERIES),
    )


def spark(series: Series, start: float, end: float, *, step: float, thresholds: Sequence[float] = ()) -> Spark:
    """A small drawing of `series` between two times in Unix seconds; points more than 2.5 steps apart are not connected."""
    top = max([*(value for _, value in series.points), *thresholds]) or 1.0

    def position(at: float, value: float) -> tuple[float, float]:
        across = (at - start) / (end - start) * WIDTH
        return round(across, 1), round(HEIGHT - min(max(value / top, 0.0), 1.0) * HEIGHT, 1)

    runs: list[list[tuple[float, float]]] = []
    last = float("-inf")
    for at, value in series.points:
        if at - last > 2.5 * step:
            runs.append([])
        runs[-1].append(position(at, value))
        last = at
    return Spark(
        path="".join(map(_path, runs)),
        area="".join(f"{_path([(run[0][0], HEIGHT), *run, (run[-1][0], HEIGHT)])}Z" for run in runs),
        rules=tuple(position(start, value)[1] for value in thresholds),
    )


def bars(items: Sequence[tuple[str, float, str]], *, rule: float) -> list[Bar]:
    """Bars of (name, value, text); the length is the value's share of the largest value or of `rule`."""
    top = max([rule, *(value for _, value, _ in items)]) or 1.0
    return [
        Bar(
            name=name,
            share=min(max(value / top, 0.0), 1.0),
            text=label,
            tone="bad" if value >= rule else "ok",
            rule=rule / top,
        )
        for name, value, label in items
    ]


def _path(points: Sequence[tuple[float, float]]) -> str:
    if len(points) == 1:  # a line of almost no length with round ends is a dot
        return f"M{points[0][0]:g} {points[0][1]:g}h0.01"
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
