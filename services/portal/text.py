"""Figures as people read them: units by Grafana's names, spans of time, clock times."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

_SPANS: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def plain(value: float) -> str:
    """Three significant digits: 0.00412, 3.14, 1 234, 12.3 k, 4.2 M."""
    size = abs(value)
    for factor, suffix in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if size >= factor * 0.9995:
            return f"{_short(value / (1e3 if suffix == ' k' else factor))}{suffix}"
    if size >= 999.5:
        return f"{value:,.0f}".replace(",", "\u202f")
    return _short(value)


def span(seconds: float) -> str:
    """A span of time in its largest unit: '0.4 ms', '12 s', '3.5 min', '2 d'."""
    size = abs(seconds)
    for factor, unit in _SPANS:
        if size >= factor * 0.9995:
            return f"{_short(seconds / factor, 2 if factor >= 60 else 3)} {unit}"
    return f"{_short(seconds * 1e6)} µs" if seconds else "0 s"


def _bytes(value: float, base: float = 1024.0, suffix: str = "iB") -> str:
    for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "K")):
        if abs(value) >= base**power:
            return f"{_short(value / base**power)} {letter}{suffix}"
    return f"{value:.0f} B"


def _short(value: float, digits: int = 3) -> str:
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text else text


_UNITS: Final[dict[str, Callable[[float], str]]] = {
    "percentunit": lambda value: f"{_short(value * 100)} %",
    "percent": lambda value: f"{_short(value)} %",
    "s": span,
    "dtdurations": span,
    "ms": lambda value: span(value / 1000),
    "dtdurationms": lambda value: span(value / 1000),
    "µs": lambda value: span(value / 1e6),
    "bytes": _bytes,
    "decbytes": lambda value: _bytes(value, 1000.0, "B"),
    "reqps": lambda value: f"{plain(value)} req/s",
    "rps": lambda value: f"{plain(value)} rows/s",
    "ops": lambda value: f"{plain(value)} ops/s",
    "wps": lambda value: f"{plain(value)} writes/s",
    "rowsps": lambda value: f"{plain(value)} rows/s",
    "cps": lambda value: f"{plain(value)} /s",
    "hertz": lambda value: f"{plain(value)} Hz",
    "bool": lambda value: "true" if value else "false",
    "bool_yes_no": lambda value: "yes" if value else "no",
    "dateTimeAsIso": lambda value: moment(value / 1000),
    "dateTimeFromNow": lambda value: ago(value / 1000),
}


def figure(value: float, unit: str = "", decimals: int | None = None) -> str:
    """`value` in a unit by Grafana's name ('percentunit', 's', 'reqps'); an unknown one is written behind the figure."""
    if unit in _UNITS:
        return _UNITS[unit](value)
    number = plain(value) if decimals is None else f"{value:.{decimals}f}"
    return number if unit in {"", "none", "short"} else f"{number} {unit.removeprefix('suffix:').strip()}"


def ago(at: float, now: float | None = None) -> str:
    """How long before now, in words."""
    passed = (time.time() if now is None else now) - at
    if passed < 0:
        return f"in {span(float(round(-passed)))}"
    return "just now" if passed < 1.5 else f"{span(float(round(passed)))} ago"


def clock(at: float, *, seconds: bool = False) -> str:
    """The time of day in the machine's zone."""
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S" if seconds else "%H:%M")


def moment(at: float) -> str:
    """Date and time in the machine's zone."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
