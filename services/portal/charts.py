"""Charts as geometry: templates draw what is computed here, so that every name on a page passes the same escaping.

A plot is `WIDTH` by `HEIGHT` and is stretched to the room there is; its labels are evenly spaced text beside it, readable at every
width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.portal import text
from services.portal.prometheus import Series

WIDTH: Final = 1000.0
HEIGHT: Final = 300.0
COLOURS: Final = 8
TICKS: Final = 4
MOST: Final = 24
"""Series drawn in one plot; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series: an SVG path, the path of the area below it (empty for none), and its last value as text."""

    name: str
    colour: int
    path: str
    area: str
    last: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment on the time axis."""

    x: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A time series plot; `y` are its labels from the top, `x` from the left, `rules` the heights of its thresholds."""

    lines: tuple[Line, ...]
    y: tuple[str, ...]
    x: tuple[str, ...]
    rules: tuple[float, ...] = ()
    marks: tuple[Mark, ...] = ()
    left_out: int = 0
    width: float = WIDTH
    height: float = HEIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar of `share` (0 to 1) of the room; `rule` is where a threshold stands, on the same scale."""

    name: str
    share: float
    text: str
    tone: str = ""
    rule: float | None = None
    other: float | None = None
    """What it is compared with, on the same scale."""


def time_series(
    series: Sequence[tuple[str, Series]],
    start: float,
    end: float,
    *,
    step: float,
    unit: str = "",
    decimals: int | None = None,
    floor: float | None = None,
    ceiling: float | None = None,
    thresholds: Sequence[float] = (),
    marks: Sequence[tuple[float, str]] = (),
    stacked: bool = False,
    filled: bool = False,
) -> Chart:
    """The plot of `series` (name and points) between two times in unix seconds; a hole wider than 2.5 steps is a gap."""
    shown = [(name, line.points) for name, line in series[:MOST]]
    heights = _stack([points for _, points in shown]) if stacked else [[(t, v, 0.0) for t, v in p] for _, p in shown]
    values = [value for points in heights for _, value, _ in points]
    low = floor if floor is not None else min([0.0 if stacked or filled else math.inf, *values, *thresholds])
    high = ceiling if ceiling is not None else max([low, *values, *thresholds])
    low, high = scale(min(low, high), high)

    def place(at: float, value: float) -> tuple[float, float]:
        across = (at - start) / (end - start) * WIDTH
        up = (min(max(value, low), high) - low) / (high - low) * HEIGHT
        return round(across, 1), round(HEIGHT - up, 1)

    lines = []
    for index, ((name, points), stack) in enumerate(zip(shown, heights, strict=True)):
        runs = _runs(stack, 2.5 * step)
        tops = [[place(at, value) for at, value, _ in run] for run in runs]
        bottoms = [[place(at, base if stacked else low) for at, _, base in run] for run in runs]
        areas = [f"{_path(top)}L{_path(bottom[::-1])[1:]}Z" for top, bottom in zip(tops, bottoms, strict=True)]
        lines.append(
            Line(
                name=name,
                colour=index % COLOURS,
                path="".join(map(_path, tops)),
                area="".join(areas) if stacked or filled else "",
                last=text.figure(points[-1][1], unit, decimals),
            )
        )
    y_values = [high - (high - low) * tick / TICKS for tick in range(TICKS + 1)]
    x_values = [start + (end - start) * tick / TICKS for tick in range(TICKS + 1)]
    return Chart(
        lines=tuple(lines),
        y=tuple(text.figure(0.0 if abs(value) < (high - low) * 1e-9 else value, unit, decimals) for value in y_values),
        x=tuple(text.clock(value, seconds=end - start <= 600) for value in x_values),
        rules=tuple(place(start, value)[1] for value in thresholds if low <= value <= high),
        marks=tuple(Mark(x=place(at, low)[0], text=said) for at, said in marks if start <= at <= end),
        left_out=max(0, len(series) - MOST),
    )


def bars(items: Sequence[tuple[str, float, str]], *, most: float | None = None, rule: float | None = None) -> list[Bar]:
    """Bars of (name, value, text), each as long as its value's share of the greatest one or of `most`."""
    top = max([most or 0.0, rule or 0.0, *(value for _, value, _ in items)]) or 1.0
    return [
        Bar(
            name=name,
            share=min(max(value / top, 0.0), 1.0),
            text=said,
            tone="" if rule is None else "bad" if value >= rule else "ok",
            rule=None if rule is None else rule / top,
        )
        for name, value, said in items
    ]


def scale(low: float, high: float) -> tuple[float, float]:
    """The nearest range around `low` to `high` whose quarters are round numbers."""
    if not math.isfinite(low) or not math.isfinite(high):
        return 0.0, 1.0
    if high - low <= max(abs(high), abs(low)) * 1e-9 or high - low < 1e-200:
        low, high = (low - abs(low) * 0.5 or -0.0, high + abs(high) * 0.5) if abs(high) > 1e-200 else (0.0, 1.0)
    low = 0.0 if 0 < low < 0.5 * high else low
    magnitude = 10.0 ** math.floor(math.log10((high - low) / TICKS))
    for factor in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 15, 20):
        step = factor * magnitude
        bottom = math.floor(low / step + 1e-9) * step
        if bottom + TICKS * step >= high - step * 1e-9:
            return bottom, bottom + TICKS * step
    return low, high


def _stack(lines: Sequence[Sequence[tuple[float, float]]]) -> list[list[tuple[float, float, float]]]:
    """(time, top, bottom) of each line laid on those before it."""
    below: dict[float, float] = {}
    stacked = []
    for points in lines:
        stacked.append([(at, below.get(at, 0.0) + value, below.get(at, 0.0)) for at, value in points])
        for at, value in points:
            below[at] = below.get(at, 0.0) + value
    return stacked


def _runs(points: Sequence[tuple[float, float, float]], gap: float) -> list[list[tuple[float, float, float]]]:
    runs: list[list[tuple[float, float, float]]] = []
    for point in points:
        if not runs or point[0] - runs[-1][-1][0] > gap:
            runs.append([])
        runs[-1].append(point)
    return runs


def _path(points: Sequence[tuple[float, float]]) -> str:
    if len(points) == 1:  # a line of no length with round ends is a dot
        return f"M{points[0][0]:g} {points[0][1]:g}h0.01"
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
