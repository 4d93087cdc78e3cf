"""What happened, read from the store: events, verdicts and reports. A file that can't be read is left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from phaseflow.errors import PlatformError
from phaseflow.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened: `time` in unix seconds, `tone` ok, bad, warn, active or empty."""

    time: float
    project: str
    type: str
    summary: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition of the gate, with what was found and what is allowed."""

    check: str
    found: str
    allowed: str
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate decided on one run; metrics are on that run's holdout."""

    run: str
    passed: bool
    candidate: str
    version: str
    champion: str
    metrics: Mapping[str, float]
    champion_metrics: Mapping[str, float]
    checks: tuple[Check, ...]
    created: float


def events(store: Store, project: str, limit: int, *, without: frozenset[str] = frozenset()) -> list[Event]:
    """The latest events but those of the types `without`, newest first; a key tells time and type, so no other is read."""
    names = (path for path in _found(store, f"events/{project}", "*.json") if _type(path) not in without)
    return [event for path in _last(names, limit) if (event := _event(project, path))]


def latest(store: Store, project: str, kind: str) -> Event | None:
    """The newest event of a type."""
    return next(
        (e for p in _last(_found(store, f"events/{project}", f"*-{kind}-*.json"), 1) if (e := _event(project, p))), None
    )


def _type(path: Path) -> str:
    return path.name.partition("-")[2].partition("-")[0]


def _event(project: str, path: Path) -> Event | None:
    content = _object(path)
    kind, data = str(content.get("type", "")).removeprefix("dev.phaseflow."), content.get("data")
    if not kind or not isinstance(data, dict):
        return None
    summary, tone = describe(kind, data)
    return Event(time=unix(content.get("time")), project=project, type=kind, summary=summary, tone=tone)


def verdicts(store: Store, project: str, limit: int) -> list[Verdict]:
    """The latest verdicts, newest first."""
    paths = sorted(_found(store, f"runs/{project}", "*/verdict.json"), key=_modified, reverse=True)[:limit]
    return sorted((v for v in map(_verdict, map(_object, paths)) if v), key=lambda v: v.created, reverse=True)


def last_report(store: Store, project: str) -> tuple[str, float] | None:
    """Window and time (unix seconds) of the newest Evidently report."""
    for path in _last(_found(store, f"reports/{project}", "*/report.html"), 1):
        window = path.parent.name
        try:
            return window, datetime.strptime(window, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            return window, _modified(path)
    return None


def describe(kind: str, data: Mapping[str, Any]) -> tuple[str, str]:
    """An event in a sentence, and its tone."""
    version, reason = data.get("version"), _reason(data)
    match kind:
        case "promotion":
            before = f", was version {data['previous']}" if data.get("previous") else ""
            said, tone = f"version {version} is champion{before}", "ok"
        case "rollback":
            said, tone = f"back to version {version}", "warn"
        case "verdict":
            decided, tone = ("passed the gate", "ok") if data.get("passed") else ("did not pass the gate", "warn")
            said = f"{data.get('candidate') or 'candidate'} (version {version}) {decided}"
        case "retraining":
            outcome = str(data.get("outcome") or "requested")
            said, tone = outcome, "bad" if outcome == "failed" else "active"
        case "swap":
            said, tone = f"the service answers with version {data.get('to')}", "ok"
        case "snapshot":
            counts = (("train_rows", "to train on"), ("holdout_rows", "held out"), ("feedback_rows", "from feedback"))
            rows = ", ".join(f"{data[key]} {words}" for key, words in counts if data.get(key))
            said, tone = f"{str(data.get('snapshot', '')).rstrip('/').rsplit('/', 1)[-1]}: {rows or 'new data'}", ""
        case "alert":
            state = str(data.get("status") or "")
            said = f"{data.get('alert') or data.get('alertname') or 'alert'} {state}".rstrip()
            tone = "ok" if state == "resolved" else "bad"
        case "run":  # its reason stands with the retraining that asked for it
            said, reason = f"{data.get('run') or 'a run'} {data.get('state') or ''}".rstrip(), ""
            tone = "bad" if data.get("state") == "failed" else ""
        case _:
            plain = (f"{key} {value}" for key, value in data.items() if isinstance(value, str | int | float))
            said, tone, reason = ", ".join(plain) or kind, "", ""
    return f"{said}{reason}", tone


def _reason(data: Mapping[str, Any]) -> str:
    failed = [c for c in data.get("checks") or () if isinstance(c, dict) and not c.get("passed")]
    if failed:
        return ": " + "; ".join(
            f"{c.get('check')} is {_found_text(c.get('found'))}, allowed {c.get('allowed')}" for c in failed
        )
    said = data.get("reason") or data.get("why")
    return f": {said}" if said else ""


def _verdict(content: Mapping[str, Any]) -> Verdict | None:
    try:
        return Verdict(
            run=str(content["run"]),
            passed=bool(content["passed"]),
            candidate=str(content["candidate"]),
            version=_text(content.get("version")),
            champion=_text(content.get("champion")),
            metrics=_numbers(content.get("metrics")),
            champion_metrics=_numbers(content.get("champion_metrics")),
            checks=tuple(
                Check(
                    check=str(check["check"]),
                    found=_found_text(check["found"]),
                    allowed=str(check["allowed"]),
                    passed=bool(check["passed"]),
                )
                for check in content["checks"]
            ),
            created=unix(content.get("created")),
        )
    except (KeyError, TypeError, AttributeError):
        return None


def _found_text(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _numbers(value: Any) -> dict[str, float]:
    items = value.items() if isinstance(value, dict) else ()
    return {str(k): float(v) for k, v in items if isinstance(v, int | float) and not isinstance(v, bool)}


def unix(value: Any) -> float:
    """Unix seconds of an ISO 8601 time or a number; 0 for anything else."""
    if isinstance(value, int | float):
        return float(value)
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return 0.0


def _last(paths: Iterable[Path], limit: int) -> list[Path]:
    return sorted(paths, reverse=True)[:limit]


def _found(store: Store, prefix: str, pattern: str) -> Iterator[Path]:
    try:
        base = store.path(prefix)
    except PlatformError:  # not a folder: nothing to show, and the page says so
        return
    yield from (path for path in base.glob(pattern) if not path.name.startswith("."))


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
