"""What happened, read from the store: events, verdicts and reports. A file that can't be read is left out."""

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
    champion_candidate: str
    confirmed: str
    """The version that the confirmed champion has from now on, "" where it was not confirmed."""
    metrics: Mapping[str, float]
    champion_metrics: Mapping[str, float]
    checks: tuple[Check, ...]
    created: float


def events(store: Store, project: str, limit: int, *, without: frozenset[str] = frozenset()) -> list[Event]:
    """The latest events but those of the types `without`, newest first; a key tells time and type, so no other is read."""
    found = (entry for entry in _found(store, f"events/{project}", ".json") if _type(entry) not in without)
    return [event for entry in _last(found, limit) if (event := _event(store, project, entry))]


def latest(store: Store, project: str, kind: str) -> Event | None:
    """The newest event of a type."""
    found = (entry for entry in _found(store, f"events/{project}", ".json") if _type(entry) == kind)
    return next((event for entry in _last(found, 1) if (event := _event(store, project, entry))), None)


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
    found = _found(store, f"runs/{project}", "/verdict.json")
    newest = sorted(found, key=lambda entry: entry.modified, reverse=True)[:limit]
    read = (_verdict(_object(store, entry)) for entry in newest)
    return sorted((verdict for verdict in read if verdict), key=lambda v: v.created, reverse=True)


def last_report(store: Store, project: str) -> tuple[str, float] | None:
    """Window and time (unix seconds) of the newest Evidently report."""
    for entry in _last(_found(store, f"reports/{project}", "/report.html"), 1):
        window = entry.key.split("/")[-2]
        try:
            return window, datetime.strptime(window, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            return window, entry.modified
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
    if not data.get("passed") and isinstance(data.get("why"), str) and data["why"]:
        return f": {data['why']}"
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
            champion_candidate=_text(content.get("champion_candidate")),
            confirmed=_text(content.get("confirmed")),
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


def _last(entries: Iterable[Entry], limit: int) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.key, reverse=True)[:limit]


def _found(store: Store, prefix: str, suffix: str) -> list[Entry]:
    try:
        return [entry for entry in store.entries(prefix) if entry.key.endswith(suffix)]
    except PlatformError:  # the store is away: nothing to show, and the page says so
        return []


def _object(store: Store, entry: Entry) -> dict[str, Any]:
    try:
        content = json.loads(_read(store, entry))
    except (OSError, PlatformError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@functools.lru_cache(maxsize=4096)
def _read(store: Store, entry: Entry) -> bytes:
    """An object is read once as long as it is not written again."""
    return store.read(entry.key)
