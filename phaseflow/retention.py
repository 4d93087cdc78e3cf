"""What `phaseflow clean` removes of a project's objects, and why the rest stays: decided from a listing, without touching anything.

An item (an hour of the log, a run's staging, a snapshot, a report) is kept or removed as a whole. What stays names its reason. Nothing
is removed whose key is not of the form that the platform writes: it belongs to somebody else.
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
"""Folders of the store in which a project has one of its own."""
IN_USE: Final = timedelta(days=1)
"""What was written so lately may be in the hands of a run, which ends within hours."""
MAX_NAMES: Final = 3
"""Names of items that a line of the summary shows."""
HOUR: Final = re.compile(r"date=(\d{4}-\d{2}-\d{2})/hour=(\d{2})/")
STAMP: Final = re.compile(r"\d{8}T\d{6}")
ALIASES: Final = ("champion", "challenger", "previous")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What is kept or removed as a whole."""

    kind: str
    """As the summary calls it: `log`, `snapshots`, ..."""
    name: str
    keys: tuple[str, ...] = ()
    """Its objects, in the order in which they are removed: the first is the one that makes the rest count."""
    count: int = 1
    size: int = 0
    """Bytes."""
    remove: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What MLflow's aliases point to, by name, each with the reason to say."""

    snapshots: Mapping[str, str] = field(default_factory=dict)
    runs: Mapping[str, str] = field(default_factory=dict)
    asked: bool = True
    """Whether MLflow answered; where it did not, everything that an alias might need stays."""


def needs_of(versions: Iterable[Mapping[str, Any]] | None) -> Needs:
    """What the versions (as `python -m services.registry versions` lists them) with an alias need; None where MLflow did not answer."""
    if versions is None:
        return Needs(asked=False)
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
    """Items of a project's objects, those of each of `PREFIXES` in `entries`.

    `manifests` are the snapshots' by hash, `reports` the `report.json`s by window.
    """
    yield from _log(entries.get("predictions", ()), keep, now)
    yield from _log(entries.get("feedback", ()), keep, now)
    yield from _aged("staging", _folders(entries.get("staging", ())), keep.staging_days, now)
    yield from _aged("quarantine", _files(entries.get("quarantine", ())), keep.quarantine_days, now)
    report_items = list(_reports(_folders(entries.get("reports", ())), keep.report_days, now))
    yield from report_items
    yield from _runs(_folders(entries.get("runs", ())), keep.run_days, needs, now)
    yield from _aged("events", _files(entries.get("events", ())), keep.event_days, now, time=_stamp)
    shown = {
        str(reports[item.name].get("snapshot")): f"the report {item.name} needs it"
        for item in report_items
        if not item.remove and item.name in reports
    }
    datasets = list(entries.get("datasets", ()))
    yield from _states([entry for entry in datasets if is_state(entry.key)], now)
    folders = _folders(entry for entry in datasets if not is_state(entry.key))
    yield from _snapshots(folders, manifests, keep.snapshots, needs, shown, now)


def summary(items: Iterable[Item]) -> list[dict[str, Any]]:
    """One line for each kind, verdict and reason: how many objects of how many bytes, and a few of their names."""
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
    """An item for each hour that ended too long ago, one for all others."""
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
    """By the time that the name tells, else by the last write."""
    for name, group in groups.items():
        last = time(name) or max(datetime.fromtimestamp(entry.modified, UTC) for entry in group)
        remove = last < now - timedelta(days=days)
        yield _item(kind, name, group, remove=remove, why=f"{'older than' if remove else 'within'} {days} days")


def _reports(groups: Mapping[str, list[Entry]], days: int, now: datetime) -> Iterator[Item]:
    newest = max((name for name in groups if _stamp(name)), default="")
    for item in _aged("reports", groups, days, now, time=_stamp):
        yield _kept(item, "the newest") if item.name == newest else item


def _runs(groups: Mapping[str, list[Entry]], days: int, needs: Needs, now: datetime) -> Iterator[Item]:
    for item in _aged("runs", groups, days, now):
        if item.remove and not needs.asked:
            yield _kept(item, "MLflow did not say which ones its aliases need")
        else:
            yield _kept(item, needs.runs[item.name]) if item.name in needs.runs else item


def _snapshots(
    groups: Mapping[str, list[Entry]],
    manifests: Mapping[str, Mapping[str, Any]],
    most: int,
    needs: Needs,
    shown: Mapping[str, str],
    now: datetime,
) -> Iterator[Item]:
    """Whole ones by the time of their making, then what a killed step or an erasure left."""
    order = sorted(manifests, key=lambda name: str(manifests[name].get("created", "")), reverse=True)
    for place, name in enumerate(order):
        group = groups.get(name, [])
        young = any(entry.modified > (now - IN_USE).timestamp() for entry in group)
        why = (
            ("the newest" if place == 0 else "")
            or needs.snapshots.get(name)
            or shown.get(name)
            or (f"one of the newest {most}" if place < most else "")
            or ("its manifest can't be read" if not manifests[name] else "")
            or ("younger than a day: a run may read it" if young else "")
            or ("" if needs.asked else "MLflow did not say which ones its aliases need")
        )
        yield _item("snapshots", name, group, remove=not why, why=why or f"beyond the newest {most}")
    for name in sorted(groups.keys() - manifests.keys()):
        group = [entry for entry in groups[name] if _file(entry) != FORWARD]
        if not group:
            continue
        remove = max(entry.modified for entry in group) < (now - IN_USE).timestamp()
        why = "left by a step that broke off" if remove else "younger than a day: a step may be writing it"
        yield _item("snapshots", name, group, remove=remove, why=why)


def _states(entries: Iterable[Entry], now: datetime) -> Iterator[Item]:
    """Only the newest state is read; the names of states tell their times."""
    for place, entry in enumerate(sorted(entries, key=_file, reverse=True)):
        young = entry.modified > (now - IN_USE).timestamp()
        why = "the next snapshot extends it" if place == 0 else "younger than a day: a run may read it" if young else ""
        name = "/".join(entry.key.split("/")[2:])
        yield _item("states", name, [entry], remove=not why, why=why or "a newer one is extended")


def _item(kind: str, name: str, group: list[Entry], *, remove: bool, why: str) -> Item:
    # The file that makes the others count goes first: killed in between, what is left is no snapshot and no report.
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


def _kept(item: Item, why: str) -> Item:
    return Item(kind=item.kind, name=item.name, count=item.count, size=item.size, why=why)


def _file(entry: Entry) -> str:
    return entry.key.rsplit("/", 1)[-1]


def _folders(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Entries by the folder below the project's; a file beside those folders is none of the platform's."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        parts = entry.key.split("/", 3)
        if len(parts) == 4:
            groups[parts[2]].append(entry)
    return groups


def _files(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Entries by their name without its ending."""
    return {_file(entry).rpartition(".")[0]: [entry] for entry in entries}


def _stamp(name: str) -> datetime | None:
    """The time with which a name begins."""
    return _time(name[:15], "%Y%m%dT%H%M%S") if STAMP.match(name) else None


def _time(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None
