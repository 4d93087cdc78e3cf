"""`python -m pipelines.etl.compact [--result FILE]`: merge the small files of the logs' finished hours.

Each hour becomes one sorted file, with the hour's statistics beside it. The order of writes makes it safe to interrupt
the command at any point, and to run it twice at the same time:

1. The compacted file is written atomically under a name derived from its sources. From then on
   readers skip the sources.
2. The hour's statistics are written.
3. The sources are removed.

The next run completes an interrupted one, and merges files that arrive later.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from phaseflow import discovery, erasure, errors, logs
from phaseflow.contract import Project
from phaseflow.errors import PhaseflowError
from phaseflow.lease import Lock
from phaseflow.log import configure, logger
from phaseflow.reference import PREDICTION
from phaseflow.settings import from_environment
from phaseflow.store import Entry, Store, write_result
from phaseflow.toolkit import histograms

PART_BYTES: Final = 96 << 20
"""Maximum memory of the rows of one compacted file. A larger hour gets several files, to bound the memory."""
FULL_BYTES: Final = 16 << 20
"""Size from which a compacted file is not merged again."""
GROUP_FILES: Final = 300
GROUP_BYTES: Final = 8 << 20


def main(arguments: list[str] | None = None) -> int:
    """Merge the logs of every project and print the totals per project."""
    parser = argparse.ArgumentParser(prog="pipelines.etl.compact")
    parser.add_argument("--result", type=Path)
    options = parser.parse_args(arguments)
    settings = from_environment()
    configure("etl.compact", settings.log_format)
    try:
        result = compact_all(Store(settings.store))
    except PhaseflowError as error:
        return errors.report(error)
    print(json.dumps(result))
    if options.result:
        write_result(options.result, json.dumps(result).encode())
    return 0


def compact(project: Project, store: Store, now: datetime | None = None) -> dict[str, int]:
    """Merge the hours that are finished at `now`. Returns the number of merged hours, files and rows.

    Raises PlatformError if the store is unavailable or another process compacts the project's logs.
    """
    totals = {"hours": 0, "files": 0, "rows": 0}
    with locked(store, project) as lock:
        for kind in logs.KINDS:
            for hour, entries in _finished_hours(store, kind, project.name, now or datetime.now(UTC)):
                try:
                    files, rows = _hour(store, kind, project, hour, entries, lock)
                except FileNotFoundError:  # replaced by a run that had lost its lock; the next run handles it
                    continue
                totals = {
                    "hours": totals["hours"] + (files > 0),
                    "files": totals["files"] + files,
                    "rows": totals["rows"] + rows,
                }
    return totals


def locked(store: Store, project: Project) -> AbstractContextManager[Lock]:
    """Return the lock for changes of the logs, which retention shares."""
    return store.lock(f"retention-{project.name}")


def compact_all(store: Store) -> dict[str, Any]:
    """Merge the logs of every project. A failure does not stop the other projects, and is raised at the end."""
    results: dict[str, Any] = {}
    failed: PhaseflowError | None = None
    for name in discovery.names():
        try:
            results[name] = compact(discovery.get(name), store)
        except PhaseflowError as error:
            logger.warning("Could not compact the logs of %s: %s", name, error)
            failed = error
    if failed is not None:
        raise failed
    return {name: counts for name, counts in results.items() if counts["hours"]}


def _finished_hours(store: Store, kind: str, project: str, now: datetime) -> Iterator[tuple[datetime, list[Entry]]]:
    """Yield the hours that only late files can still reach, with all their objects.

    The whole log is listed, because a late file of any hour is merged, and a compacted log has few objects.
    """
    hours: dict[datetime, list[Entry]] = defaultdict(list)
    for entry in store.entries(f"{kind}/{project}"):
        hour = logs.hour_of(entry.key)
        if hour is not None and hour + logs.HOUR + logs.LATE + logs.SKEW <= now:
            hours[hour].append(entry)
    yield from sorted(hours.items())


def _hour(
    store: Store, kind: str, project: Project, hour: datetime, entries: Sequence[Entry], lock: Lock
) -> tuple[int, int]:
    """Merge one hour. Returns the number of merged files and rows."""
    files = logs.sorted_out(store, entries)
    merged = [entry for entry in files.read if not logs.is_compacted(entry.key) or entry.size < FULL_BYTES]
    count, rows = 0, 0
    described = any(entry.key.endswith(f"/{logs.STATISTICS}") for entry in entries)
    if len(merged) > 1 or (merged and not logs.is_compacted(merged[0].key)):
        erased = erasure.erasures(store, project.name)
        for part, names in _parts(store, merged):
            lock.check()
            rows += _write(store, kind, project, hour, erased.without(part), names)
            count += len(names)
            _remove(store, [entry for entry in merged if entry.key.rpartition("/")[2] in names], lock)
        _describe(store, kind, project, hour, lock)
    elif files.covered or not described:  # an earlier run was interrupted between its writes
        _describe(store, kind, project, hour, lock)
    _remove(store, files.covered, lock)
    return count, rows


def _parts(store: Store, entries: Sequence[Entry]) -> Iterator[tuple[pl.DataFrame, set[str]]]:
    """Yield the rows of each compacted file with the names of its sources. Unreadable files are left alone."""
    frames: list[pl.DataFrame] = []
    names: set[str] = set()
    size = 0
    for group in _groups(
        sorted(entries, key=lambda entry: entry.modified)
    ):  # roughly by time, so that parts overlap little
        keys = [entry.key for entry in group]
        frame, unreadable = logs.together(store, keys)
        readable = {key.rpartition("/")[2] for key in keys if key not in unreadable}
        if frames and size + frame.estimated_size() > PART_BYTES:
            yield _merge(frames), names
            frames, names, size = [], set(), 0
        if readable:
            frames.append(frame)
        names = names | readable
        size += int(frame.estimated_size())
    if frames:
        yield _merge(frames), names


def _groups(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yield groups of files to read in one call."""
    group: list[Entry] = []
    for entry in entries:
        if group and (len(group) == GROUP_FILES or sum(each.size for each in group) + entry.size > GROUP_BYTES):
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _merge(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Merge the frames by time and id without duplicates, and clear the list. All labels of an id are kept."""
    rows = pl.concat(frames, how="diagonal_relaxed")
    frames.clear()
    if "label" in rows.columns:
        return rows.unique().sort("time", "id", *sorted(set(rows.columns) - {"time", "id"}))
    return logs.last(rows)


def _write(store: Store, kind: str, project: Project, hour: datetime, rows: pl.DataFrame, names: set[str]) -> int:
    """Write a compacted file that covers the files `names` and the files that these cover."""
    folder = logs.folder(kind, project.name, hour)
    replaced = [name for name in names if logs.is_compacted(name)]
    covered = names.union(*(logs.sources(store, f"{folder}/{name}") for name in replaced))
    name, content = logs.written(rows, covered)
    store.write(f"{folder}/{name}", content)
    return rows.height


def _describe(store: Store, kind: str, project: Project, hour: datetime, lock: Lock) -> None:
    """Write the statistics of the hour's predictions over all its compacted files."""
    if kind != "predictions":
        return
    lock.check()
    statistics = histograms.of(project, logs.batches(store, kind, project.name, hour, _monitored_columns(project)))
    key = f"{logs.folder(kind, project.name, hour)}/{logs.STATISTICS}"
    store.write(key, histograms.to_json(statistics))


def _monitored_columns(project: Project) -> set[str]:
    """Return the logged columns that the statistics need."""
    return {"id", "version", PREDICTION, *(name.partition(".")[0] for name in project.monitored_features)}


def _remove(store: Store, entries: Sequence[Entry], lock: Lock) -> None:
    for entry in entries:
        lock.check()
        store.delete(entry.key)


if __name__ == "__main__":
    sys.exit(main())
