"""The history in the store: events, verdicts and reports. Files that can't be read are skipped."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from phaseflow.errors import PlatformError
from phaseflow.store import Entry, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event: `time` in Unix seconds, `tone` ok, bad, warn, active or empty."""

    time: float
    project: str
    type: str
    summary: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of the gate, with the observed and the required value."""

    check: str
    observed: str
    required: str
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The gate's decision on one run; the metrics are on that run's holdout."""

    run: str
    passed: bool
    candidate: str
    version: str
    champion: str
    champion_candidate: str
    confirmed: str
    """The new version of the champion if the gate confirmed it, otherwise empty."""
    metrics: Mapping[str, float]
    champion_metrics: Mapping[str, float]
    checks: tuple[Check, ...]
    created: float


def events(store: Store, project: str, limit: int, *, without: frozenset[str] = frozenset()) -> list[Event]:
    """The latest events except those of the types `without`, newest first.

    An event's key contains its time and type, so only these events are read.
    """
    entries = (entry for entry in _entries(store, f"events/{project}", ".json") if _type(entry) not in without)
    return [event for entry in _last(entries, limit) if (event := _event(store, project, entry))]


def latest(store: Store, project: str, kind: str) -> Event | None:
    """The newest event of the type `kind`."""
    entries = (entry for entry in _entries(store, f"events/{project}", ".json") if _type(entry) == kind)
    return next((event for entry in _last(entries, 1) if (event := _event(store, project, entry))), None)


def _type(entry: Entry) -> str:
    return entry.key.rsplit("/", 1)[-1].partition("-")[2].partition("-")[0]


def _event(store: Store, project: str, entry: Entry) -> Event | None:
    content = _object(store, entry)
    kind, data = str(content.get("type", "")).removeprefix("dev.phaseflow."), content.get("data")
    if not kind or not isinstance(data, dict):
        return None
    summary, tone = describe(kind, data)
    return Event(time=unix(content.get("time")), project=project, type=kind, summary=summary, tone=tone)


def verdicts(store: Store, project: str, limit: int) -> list[Verdict]:
    """The latest verdicts, newest first."""
    entries = _entries(store, f"runs/{project}", "/verdict.json")
    newest = sorted(entries, key=lambda entry: entry.modified, reverse=True)[:limit]
    read = (_verdict(_object(store, entry)) for entry in newest)
    return sorted((verdict for verdict in read if verdict), key=lambda v: v.created, reverse=True)


def last_report(store: Store, project: str) -> tuple[str, float] | None:
    """Window and time (Unix seconds) of the newest Evidently report; None if there is none."""
    for entry in _last(_entries(store, f"reports/{project}", "/report.json"), 1):
        window = entry.key.split("/")[-2]
        try:
            return window, datetime.strptime(window, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            return window, entry.modified
    return None


def describe(kind: str, data: Mapping[str, Any]) -> tuple[str, str]:
    """A summary of an event, and its tone."""
    version, reason = data.get("version"), _reason(data)
    match kind:
        case "promotion":
            before = f", was version {data['previous']}" if data.get("previous") else ""
            summary, tone = f"version {version} is champion{before}", "ok"
        case "rollback":
            summary, tone = f"back to version {version}", "warn"
        case "verdict":
            outcome_text, tone = ("passed the gate", "ok") if data.get("passed") else ("did not pass the gate", "warn")
            summary = f"{data.get('candidate') or 'candidate'} (version {version}) {outcome_text}"
        case "retraining":
            outcome = str(data.get("outcome") or "requested")
            summary, tone = outcome, "bad" if outcome == "failed" else "active"
        case "swap":
            summary, tone = f"the service now serves version {data.get('to')}", "ok"
        case "snapshot":
            counts = (("train_rows", "for training"), ("holdout_rows", "held out"), ("feedback_rows", "from feedback"))
            rows = ", ".join(f"{data[key]} {words}" for key, words in counts if data.get(key))
            summary, tone = f"{str(data.get('snapshot', '')).rstrip('/').rsplit('/', 1)[-1]}: {rows or 'new data'}", ""
        case "alert":
            state = str(data.get("status") or "")
            summary = f"{data.get('alert') or data.get('alertname') or 'alert'} {state}".rstrip()
            tone = "ok" if state == "resolved" else "bad"
        case "run":  # its reason is shown with the event of the retraining
            summary, reason = f"{data.get('run') or 'a run'} {data.get('state') or ''}".rstrip(), ""
            tone = "bad" if data.get("state") == "failed" else ""
        case _:
            plain = (f"{key} {value}" for key, value in data.items() if isinstance(value, str | int | float))
            summary, tone, reason = ", ".join(plain) or kind, "", ""
    return f"{summary}{reason}", tone


def _reason(data: Mapping[str, Any]) -> str:
    if not data.get("passed") and isinstance(data.get("why"), str) and data["why"]:
        return f": {data['why']}"
    failed = [c for c in data.get("checks") or () if isinstance(c, dict) and not c.get("passed")]
    if failed:
        return ": " + "; ".join(
            f"{c.get('check')} is {_figure(c.get('observed'))}, allowed {c.get('required')}" for c in failed
        )
    reason = data.get("reason") or data.get("why")
    return f": {reason}" if reason else ""


def _verdict(content: Mapping[str, Any]) -> Verdict | None:
    try:
        return Verdict(
            run=str(content["run"]),
            passed=bool(content["passed"]),
            candidate=str(content["candidate"]),
            version=_text(content.get("version")),
            champion=_text(content.get("champion")),
            champion_candidate=_text(content.get("champion_candidate")),
            confirmed=_text(content.get("confirmed")),
            metrics=_numbers(content.get("metrics")),
            champion_metrics=_numbers(content.get("champion_metrics")),
            checks=tuple(
                Check(
                    check=str(check["check"]),
                    observed=_figure(check["observed"]),
                    required=str(check["required"]),
                    passed=bool(check["passed"]),
                )
                for check in content["checks"]
            ),
            created=unix(content.get("created")),
        )
    except (KeyError, TypeError, AttributeError):
        return None


def _figure(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _numbers(value: Any) -> dict[str, float]:
    items = value.items() if isinstance(value, dict) else ()
    return {str(k): float(v) for k, v in items if isinstance(v, int | float) and not isinstance(v, bool)}


def unix(value: Any) -> float:
    """Unix seconds of an ISO 8601 time or of a number; 0 if the value is neither."""
    if isinstance(value, int | float):
        return float(value)
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return 0.0


def _last(entries: Iterable[Entry], limit: int) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.key, reverse=True)[:limit]


def _entries(store: Store, prefix: str, suffix: str) -> list[Entry]:
    try:
        return [entry for entry in store.entries(prefix) if entry.key.endswith(suffix)]
    except PlatformError:  # the store is unavailable: there is nothing to show
        return []


def _object(store: Store, entry: Entry) -> dict[str, Any]:
    try:
        content = json.loads(_read(store, entry))
    except (OSError, PlatformError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@functools.lru_cache(maxsize=4096)
def _read(store: Store, entry: Entry) -> bytes:
    """The content of an object; cached until the object is written again."""
    return store.read(entry.key)
