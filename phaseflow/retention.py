"""The retention plan of `phaseflow clean`: which objects of a project to remove, and why the others stay.

The plan is made from a listing and changes nothing. An item (an hour of the log, the staging of a run, a snapshot, a
report) stays or is removed as a whole. An item that stays has a reason. Objects whose keys the platform does not write
are never removed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from phaseflow.contract import Keep
from phaseflow.erasure import FORWARD
from phaseflow.formats import is_state
from phaseflow.store import Entry

PREFIXES: Final = ("predictions", "feedback", "staging", "quarantine", "reports", "runs", "events", "datasets")
"""Folders of the store with one subfolder per project."""
IN_USE: Final = timedelta(days=1)
"""Objects younger than this stay, because a run may use them. Runs end within hours."""
MAX_NAMES: Final = 3
"""Maximum number of item names per line of the summary."""
HOUR: Final = re.compile(r"date=(\d{4}-\d{2}-\d{2})/hour=(\d{2})/")
STAMP: Final = re.compile(r"\d{8}T\d{6}")
ALIASES: Final = ("champion", "challenger", "previous")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Objects that stay or are removed as a whole."""

    kind: str
    """The kind in the summary: `predictions`, `snapshots`, ..."""
    name: str
    keys: tuple[str, ...] = ()
    """Keys of the objects to remove, in order. A manifest or report is first; the others do not count without it."""
    count: int = 1
    size: int = 0
    """Total size in bytes."""
    remove: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Snapshots and runs that MLflow aliases need, by name, with the reason."""

    snapshots: Mapping[str, str] = field(default_factory=dict)
    runs: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    """Whether MLflow responded. If not, everything that an alias may need stays."""


def needs_of(versions: Iterable[Mapping[str, Any]] | None) -> Needs:
    """Collect the needs of the model versions with an alias, or None if MLflow did not respond.

    `versions` is the output of `python -m services.registry versions`.
    """
    if versions is None:
        return Needs(complete=False)
    snapshots: dict[str, str] = {}
    runs: dict[str, str] = {}
    for version in versions:
        for alias in version["aliases"]:
            why = f"the alias {alias} (version {version['version']}) needs it"
            snapshots |= {name: why for name in (version.get("snapshot"), version.get("erased_from")) if name}
            if version.get("run"):
                runs[version["run"]] = why
    return Needs(snapshots=snapshots, runs=runs)


def plan(
    entries: Mapping[str, Iterable[Entry]],
    keep: Keep,
    needs: Needs,
    now: datetime,
    *,
    manifests: Mapping[str, Mapping[str, Any]],
    reports: Mapping[str, Mapping[str, Any]],
) -> Iterator[Item]:
    """Plan the retention of the objects of a project, which `entries` contains by prefix (`PREFIXES`).

    `manifests` are the manifests of the snapshots by hash, and `reports` the contents of `report.json` by window.
    """
    yield from _log(entries.get("predictions", ()), keep, now)
    yield from _log(entries.get("feedback", ()), keep, now)
    yield from _aged("staging", _folders(entries.get("staging", ())), keep.staging_days, now)
    yield from _aged("quarantine", _files(entries.get("quarantine", ())), keep.quarantine_days, now)
    report_items = list(_reports(_folders(entries.get("reports", ())), keep.report_days, now))
    yield from report_items
    yield from _runs(_folders(entries.get("runs", ())), keep.run_days, needs, now)
    yield from _aged("events", _files(entries.get("events", ())), keep.event_days, now, time=_stamp)
    reported = {
        str(reports[item.name].get("snapshot")): f"the report {item.name} needs it"
        for item in report_items
        if not item.remove and item.name in reports
    }
    datasets = list(entries.get("datasets", ()))
    yield from _states([entry for entry in datasets if is_state(entry.key)], now)
    folders = _folders(entry for entry in datasets if not is_state(entry.key))
    yield from _snapshots(folders, manifests, keep.snapshots, needs, reported, now)


def summary(items: Iterable[Item]) -> list[dict[str, Any]]:
    """Summarize items: one line per kind, decision and reason, with number of objects, size and a few names."""
    groups: dict[tuple[str, bool, str], list[Item]] = defaultdict(list)
    for item in items:
        groups[item.kind, item.remove, item.why].append(item)
    return [
        {
            "what": kind,
            "remove": remove,
            "count": sum(item.count for item in group),
            "bytes": sum(item.size for item in group),
            "why": why,
            "names": [item.name for item in group[:MAX_NAMES]],
        }
        for (kind, remove, why), group in groups.items()
    ]


def _log(entries: Iterable[Entry], keep: Keep, now: datetime) -> Iterator[Item]:
    """One item per expired hour, and one item for all other hours."""
    edge = now - timedelta(days=keep.log_days)
    old: dict[str, list[Entry]] = defaultdict(list)
    kind, count, size = "", 0, 0
    for entry in entries:
        kind, _, rest = entry.key.partition("/")
        hour = HOUR.match(rest.partition("/")[2])
        begin = _time(f"{hour[1]}T{hour[2]}", "%Y-%m-%dT%H") if hour else None
        if begin is not None and begin + timedelta(hours=1) <= edge:
            old[f"{begin:%Y-%m-%dT%H}"].append(entry)
        else:
            count, size = count + 1, size + entry.size
    for name, group in old.items():
        yield _item(kind, name, group, remove=True, why=f"older than {keep.log_days} days")
    if count:
        yield Item(kind=kind, name="later hours", count=count, size=size, why=f"within {keep.log_days} days")


def _aged(
    kind: str, groups: Mapping[str, list[Entry]], days: int, now: datetime, time: Any = lambda _name: None
) -> Iterator[Item]:
    """Items whose age is the time in their name, if there is one, else the time of the last write."""
    for name, group in groups.items():
        last = time(name) or max(datetime.fromtimestamp(entry.modified, UTC) for entry in group)
        remove = last < now - timedelta(days=days)
        yield _item(kind, name, group, remove=remove, why=f"{'older than' if remove else 'within'} {days} days")


def _reports(groups: Mapping[str, list[Entry]], days: int, now: datetime) -> Iterator[Item]:
    newest = max((name for name in groups if _stamp(name)), default="")
    for item in _aged("reports", groups, days, now, time=_stamp):
        yield _retained(item, "the newest") if item.name == newest else item


def _runs(groups: Mapping[str, list[Entry]], days: int, needs: Needs, now: datetime) -> Iterator[Item]:
    for item in _aged("runs", groups, days, now):
        if item.remove and not needs.complete:
            yield _retained(item, "MLflow did not say which ones its aliases need")
        else:
            yield _retained(item, needs.runs[item.name]) if item.name in needs.runs else item


def _snapshots(
    groups: Mapping[str, list[Entry]],
    manifests: Mapping[str, Mapping[str, Any]],
    limit: int,
    needs: Needs,
    reported: Mapping[str, str],
    now: datetime,
) -> Iterator[Item]:
    """Complete snapshots by creation time, then the remains of killed steps and erasures."""
    order = sorted(manifests, key=lambda name: str(manifests[name].get("created", "")), reverse=True)
    for index, name in enumerate(order):
        group = groups.get(name, [])
        young = any(entry.modified > (now - IN_USE).timestamp() for entry in group)
        why = (
            ("the newest" if index == 0 else "")
            or needs.snapshots.get(name)
            or reported.get(name)
            or (f"one of the newest {limit}" if index < limit else "")
            or ("its manifest can't be read" if not manifests[name] else "")
            or ("younger than a day: a run may read it" if young else "")
            or ("" if needs.complete else "MLflow did not say which ones its aliases need")
        )
        yield _item("snapshots", name, group, remove=not why, why=why or f"beyond the newest {limit}")
    for name in sorted(groups.keys() - manifests.keys()):
        group = [entry for entry in groups[name] if _file(entry) != FORWARD]
        if not group:
            continue
        remove = max(entry.modified for entry in group) < (now - IN_USE).timestamp()
        why = "left by a step that broke off" if remove else "younger than a day: a step may be writing it"
        yield _item("snapshots", name, group, remove=remove, why=why)


def _states(entries: Iterable[Entry], now: datetime) -> Iterator[Item]:
    """Items of snapshot states. Only the newest state is read; the names contain their times."""
    for index, entry in enumerate(sorted(entries, key=_file, reverse=True)):
        young = entry.modified > (now - IN_USE).timestamp()
        why = "the next snapshot extends it" if index == 0 else "younger than a day: a run may read it" if young else ""
        name = "/".join(entry.key.split("/")[2:])
        yield _item("states", name, [entry], remove=not why, why=why or "a newer one is extended")


def _item(kind: str, name: str, group: list[Entry], *, remove: bool, why: str) -> Item:
    # Remove the manifest or report first: after an interruption, the rest does not count as a snapshot or report.
    ordered = sorted(group, key=lambda entry: (_file(entry) not in {"manifest.json", "report.json"}, entry.key))
    keys = tuple(entry.key for entry in ordered) if remove else ()
    return Item(
        kind=kind,
        name=name,
        keys=keys,
        count=len(group),
        size=sum(entry.size for entry in group),
        remove=remove,
        why=why,
    )


def _retained(item: Item, why: str) -> Item:
    return Item(kind=item.kind, name=item.name, count=item.count, size=item.size, why=why)


def _file(entry: Entry) -> str:
    return entry.key.rsplit("/", 1)[-1]


def _folders(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Group entries by subfolder of the project folder. Files outside of subfolders are not written by the platform."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        parts = entry.key.split("/", 3)
        if len(parts) == 4:
            groups[parts[2]].append(entry)
    return groups


def _files(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Entries by file name without the extension."""
    return {_file(entry).rpartition(".")[0]: [entry] for entry in entries}


def _stamp(name: str) -> datetime | None:
    """The time at the start of a name."""
    return _time(name[:15], "%Y%m%dT%H%M%S") if STAMP.match(name) else None


def _time(text: str, layout: str) -> datetime | None:
    try:
        return datetime.strptime(text, layout).replace(tzinfo=UTC)
    except ValueError:
        return None
