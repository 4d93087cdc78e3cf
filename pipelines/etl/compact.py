"""`python -m pipelines.etl.compact [--result FILE]`: merge the small files of finished hours of a project's logs into one sorted file each, with the hour's statistics beside it.

The order of writes is what makes it safe to be ended at any point, and to run twice at the same time:

1. The compacted file is written, whole, under a name that its sources give. From then on every reader leaves the sources out.
2. The hour's statistics are written.
3. The sources are removed.

Whatever is left out by a run that ended early, the next one does. A file that arrives later is merged by the next run.
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

from phaseflow import erasure, logs, registry
from phaseflow.contract import Project
from phaseflow.errors import PhaseflowError
from phaseflow.lease import Lock
from phaseflow.log import configure, logger
from phaseflow.reference import PREDICTION
from phaseflow.settings import from_environment
from phaseflow.store import Entry, Store, hand_over
from phaseflow.toolkit import histograms

PART_BYTES: Final = 96 << 20
"""Memory of the rows of one compacted file; an hour of more rows gets several, which the bound of memory asks for."""
FULL_BYTES: Final = 16 << 20
"""A compacted file of this size is not merged again."""
GROUP_FILES: Final = 300
GROUP_BYTES: Final = 8 << 20


def main(arguments: list[str] | None = None) -> int:
    """Merge the logs of every project, and print how much was merged of each."""
    parser = argparse.ArgumentParser(prog="pipelines.etl.compact")
    parser.add_argument("--result", type=Path)
    options = parser.parse_args(arguments)
    configure()
    try:
        result = compact_all(Store(from_environment().store))
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    print(json.dumps(result))
    if options.result:
        hand_over(options.result, json.dumps(result).encode())
    return 0


def compact(project: Project, store: Store, now: datetime | None = None) -> dict[str, int]:
    """Merge what is finished at `now`, and give how many hours, files and rows were merged.

    Raises PlatformError when the store is away, or another process compacts the project's logs.
    """
    done = {"hours": 0, "files": 0, "rows": 0}
    with locked(store, project) as lock:
        for kind in logs.KINDS:
            for hour, entries in _finished(store, kind, project.name, now or datetime.now(UTC)):
                try:
                    files, rows = _hour(store, kind, project, hour, entries, lock)
                except FileNotFoundError:  # a run whose lock was lost has replaced it: the next run sees what is there
                    continue
                done = {
                    "hours": done["hours"] + (files > 0),
                    "files": done["files"] + files,
                    "rows": done["rows"] + rows,
                }
    return done


def locked(store: Store, project: Project) -> AbstractContextManager[Lock]:
    """The lock of whoever changes what is in the logs: it is that of retention, too."""
    return store.lock(f"retention-{project.name}")


def compact_all(store: Store) -> dict[str, Any]:
    """Merge the logs of every project; one that fails does not hold up the others, and its error is raised at the end."""
    done: dict[str, Any] = {}
    failed: PhaseflowError | None = None
    for name in registry.names():
        try:
            done[name] = compact(registry.get(name), store)
        except PhaseflowError as error:
            logger.warning("%s is not compacted: %s", name, error)
            failed = error
    if failed is not None:
        raise failed
    return {name: counts for name, counts in done.items() if counts["hours"]}


def _finished(store: Store, kind: str, project: str, now: datetime) -> Iterator[tuple[datetime, list[Entry]]]:
    """Hours into which only late files can come any more, with all their objects.

    The whole log is listed: a file that arrives late in any hour is merged, and a compacted log has few objects.
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
    """Merge one hour; gives how many files and rows were merged."""
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
    elif files.covered or not described:  # an earlier run ended between its writes
        _describe(store, kind, project, hour, lock)
    _remove(store, files.covered, lock)
    return count, rows


def _parts(store: Store, entries: Sequence[Entry]) -> Iterator[tuple[pl.DataFrame, set[str]]]:
    """Rows of files, as many as a compacted file may hold, with the names of those files. An unreadable file stays where it is."""
    frames: list[pl.DataFrame] = []
    names: set[str] = set()
    size = 0
    for group in _groups(sorted(entries, key=lambda entry: entry.modified)):  # about by time: parts overlap little
        keys = [entry.key for entry in group]
        frame, unreadable = logs.together(store, keys)
        readable = {key.rpartition("/")[2] for key in keys if key not in unreadable}
        if frames and size + frame.estimated_size() > PART_BYTES:
            yield _merged(frames), names
            frames, names, size = [], set(), 0
        if readable:
            frames.append(frame)
        names = names | readable
        size += int(frame.estimated_size())
    if frames:
        yield _merged(frames), names


def _groups(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Files that are read in one call."""
    group: list[Entry] = []
    for entry in entries:
        if group and (len(group) == GROUP_FILES or sum(each.size for each in group) + entry.size > GROUP_BYTES):
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _merged(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of the frames, which it empties, by time and id, each once; of several labels of an id all stay."""
    rows = pl.concat(frames, how="diagonal_relaxed")
    frames.clear()
    if "truth" in rows.columns:
        return rows.unique().sort("time", "id", *sorted(set(rows.columns) - {"time", "id"}))
    return logs.last(rows)


def _write(store: Store, kind: str, project: Project, hour: datetime, rows: pl.DataFrame, names: set[str]) -> int:
    """Write a compacted file of the files `names`, and of those that they replaced."""
    place = logs.folder(kind, project.name, hour)
    replaced = [name for name in names if logs.is_compacted(name)]
    covered = names.union(*(logs.sources(store, f"{place}/{name}") for name in replaced))
    name, content = logs.written(rows, covered)
    store.write(f"{place}/{name}", content)
    return rows.height


def _describe(store: Store, kind: str, project: Project, hour: datetime, lock: Lock) -> None:
    """Write the statistics of the hour's predictions, of all its compacted files."""
    if kind != "predictions":
        return
    lock.check()
    found = histograms.of(project, logs.batches(store, kind, project.name, hour, _watched(project)))
    key = f"{logs.folder(kind, project.name, hour)}/{logs.STATISTICS}"
    store.write(key, histograms.to_json(found))


def _watched(project: Project) -> set[str]:
    """The logged columns that the statistics are of."""
    return {"id", "version", PREDICTION, *(name.partition(".")[0] for name in project.watched)}


def _remove(store: Store, entries: Sequence[Entry], lock: Lock) -> None:
    for entry in entries:
        lock.check()
        store.delete(entry.key)


if __name__ == "__main__":
    sys.exit(main())
