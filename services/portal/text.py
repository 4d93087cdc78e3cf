"""Numbers and times in human-readable form, with units by Grafana's names."""

from __future__ import annotations

import time
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple


class Step(NamedTuple):
    """How a unit shows numbers from `start` on: divided by `factor`, with `digits` significant digits and a suffix."""

    start: float
    factor: float
    suffix: str
    digits: int = 3


Scale = tuple[Step, ...]
"""The steps of a unit, largest first. `static/plots.js` formats numbers by the same steps."""


def _decimal(unit: str) -> Scale:
    tail = f" {unit}" if unit else ""
    steps = ((1e9, 1e9, " G"), (1e6, 1e6, " M"), (1e4, 1e3, " k"), (0.0, 1.0, ""))
    return tuple(Step(start, factor, prefix + tail) for start, factor, prefix in steps)


DURATION: Final[Scale] = (
    *(Step(factor, factor, f" {unit}", 2) for factor, unit in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))),
    *(Step(factor, factor, f" {unit}") for factor, unit in ((1.0, "s"), (1e-3, "ms"))),
    Step(0, 1e-6, " µs"),
)
_SCALES: Final[dict[str, Scale]] = {
    "s": DURATION,
    "ms": tuple(step._replace(start=step.start * 1000, factor=step.factor * 1000) for step in DURATION),
    "percentunit": (Step(0, 0.01, " %"),),
    "percent": (Step(0, 1, " %"),),
    "bytes": (
        *(Step(1024.0**power, 1024.0**power, f" {unit}iB") for power, unit in ((4, "T"), (3, "G"), (2, "M"), (1, "K"))),
        Step(0, 1, " B", 4),
    ),
    "reqps": _decimal("req/s"),
    **dict.fromkeys(("", "none", "short"), _decimal("")),
}


def scale(unit: str) -> Scale:
    """The scale of a unit by Grafana's name; an unknown unit is appended to the number."""
    return _SCALES.get(unit) or _decimal(unit.removeprefix("suffix:").strip())


def figure(value: float, unit: str = "") -> str:
    """`value` in a unit by Grafana's name: 22.1 ms, 72.5 %, 37.5 req/s, 1.5 KiB, 12.3 k."""
    steps, size = scale(unit), abs(value)
    zero = next((step for step in steps if step.factor == 1), steps[-1])
    step = next((step for step in steps if size >= step.start * 0.9995), steps[-1]) if value else zero
    return f"{_digits(value / step.factor, step.digits)}{step.suffix}"


def _digits(value: float, digits: int) -> str:
    if abs(value) >= 999.5:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{Decimal(f'{value:.{digits}g}'):f}"  # without an exponent


def span(seconds: float) -> str:
    """A span of time in its largest unit: '0.4 ms', '12 s', '3.5 min', '2 d'."""
    return figure(seconds, "s")


def ago(at: float, now: float | None = None) -> str:
    """The time since `at`, in words; "in …" if it is in the future."""
    elapsed = (time.time() if now is None else now) - at
    if elapsed < 0:
        return f"in {span(float(round(-elapsed)))}"
    return "just now" if elapsed < 1.5 else f"{span(float(round(elapsed)))} ago"


def clock(at: float) -> str:
    """The time of day in the machine's zone."""
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M")


def moment(at: float) -> str:
    """Date and time in the machine's zone."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
