"""Erase rows by their ids from logs, snapshots and reports.

The log is rewritten last, because it identifies the affected reports and the rows of snapshots of format 1, which have
no ids. An interrupted erasure is repeated from the start. Each object is replaced as a whole. A rewritten snapshot gets
a new name from its content, and its old folder points to it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl

from phaseflow import erasure, formats
from phaseflow.contract import Project
from phaseflow.erasure import Erasures
from phaseflow.errors import PermanentError
from phaseflow.lease import Lock
from phaseflow.log import logger
from phaseflow.store import Entry, Store
from phaseflow.toolkit.holdout import row_texts
from pipelines.retention import objects

SIDES: Final = ("train", "holdout")
MARGIN: Final = 3600.0
"""Maximum clock difference between the store and the erasing process, in seconds."""
UNREACHED: Final = (
    "backups, until they are pruned; after a restore, `phaseflow clean` erases the rows again",
    "rows in a service's spool: readers skip them, and the next `phaseflow clean` removes them",
    "the pipeline engine's artifacts (profiles, plots), until `Keep.pipeline_days` have passed",
    "old versions of objects in a bucket with versioning",
    "the project's source, which has no ids of the service",
)
"""Data that this erasure does not reach, for the output of `phaseflow forget`."""


@dataclass(slots=True)
class Trace:
    """Locations of the erased rows."""

    rows: list[pl.DataFrame] = field(default_factory=list)
    """Logged predictions [N]."""
    times: list[datetime] = field(default_factory=list)
    """Times of the predictions."""
    unreadable: list[str] = field(default_factory=list)
    """Unreadable snapshots, which may hold the rows."""


def forget(store: Store, project: Project, identity: str, now: datetime) -> dict[str, Any]:
    """Erase the row `identity` and return the changes. A second call changes nothing.

    Raises PermanentError if no log and no snapshot holds the id, and PlatformError if the store fails or another
    process cleans the project.
    """
    with objects.locked(store, project) as lock:
        before = identity in erasure.erasures(store, project.name)
        erased = erasure.of([identity])
        hits = [key for key, _ in _log_files(store, project, erased)]
        if not hits and not before and not _in_snapshots(store, project, erased):
            raise PermanentError(
                f"No log and no snapshot of {project.name} holds the id {identity!r}",
                fix="Take the id from the service's answer, `predictions[].id`; what `Keep.log_days` removed is gone already",
            )
        erasure.record(store, project.name, identity, now)  # from now on readers skip the row
        result = _erase(store, project, erased, lock)
    return {"project": project.name, "id": identity, **result, "unreached": list(UNREACHED)}


def sweep(store: Store, project: Project, lock: Lock) -> dict[str, Any]:
    """Repeat all erasures on objects that were written since: late rows, compactions, a restored backup."""
    erased = erasure.erasures(store, project.name)
    if not erased:
        return {"log": 0, "rows": 0, "snapshots": {}, "reports": []}
    return _erase(store, project, erased, lock, erased.since - MARGIN)


def _erase(store: Store, project: Project, erased: Erasures, lock: Lock, since: float = 0.0) -> dict[str, Any]:
    trace = Trace()
    files = []
    for key, hits in _log_files(store, project, erased, since):
        files.append(key)
        if key.startswith("predictions/"):
            trace.rows.append(hits)
        trace.times += hits["time"].to_list()
    snapshots = _snapshots(store, project, erased, trace, lock, since)
    _states(store, project, erased, lock, since)
    reports = _reports(store, project, trace, snapshots, lock)
    count = 0
    for key in files:
        lock.check()
        count += _rewritten(store, key, erased)
    result: dict[str, Any] = {"log": len(files), "rows": count, "snapshots": snapshots, "reports": reports}
    blind = trace.unreadable + ([] if trace.rows or since else _without_ids(store, project))
    return result | ({"unknown": blind} if blind else {})


def _without_ids(store: Store, project: Project) -> list[str]:
    """Return the snapshots of format 1 with feedback, in which rows can't be found without the log."""
    return [
        name
        for name, (about, _) in _manifests(store, project).items()
        if about.get("format", 1) == 1 and about.get("feedback_rows")
    ]


def _log_files(
    store: Store, project: Project, erased: Erasures, since: float = 0.0
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the log files that hold erased rows, with those rows."""
    for kind in ("predictions", "feedback"):
        for entry in list(store.entries(f"{kind}/{project.name}")):
            if not entry.key.endswith(".parquet") or entry.modified < since:
                continue
            try:
                content = store.read(entry.key)
                columns = pl.read_parquet_schema(io.BytesIO(content))
                if "id" not in columns or not erased.mask(pl.read_parquet(content, columns=["id"])["id"]).any():
                    continue
                rows = pl.read_parquet(content)
            except FileNotFoundError:  # merged or removed in the meantime
                continue
            except pl.exceptions.PolarsError as error:
                logger.warning("%s can't be read, and may hold the row: %s", entry.key, error)
                continue
            yield entry.key, rows.filter(erased.mask(rows["id"]))


def _rewritten(store: Store, key: str, erased: Erasures, column: str = "id") -> int:
    """Rewrite the file without the erased rows and return their number."""
    try:
        content = store.read(key)
    except FileNotFoundError:  # merged in the meantime: readers skip the rows, and the next sweep finds the file
        return 0
    rows = pl.read_parquet(content)
    rest = erased.without(rows, column)
    if rest.height < rows.height:
        store.write(key, _parquet(rest, content))
    return rows.height - rest.height


def _parquet(rows: pl.DataFrame, before: bytes) -> bytes:
    """Serialize the rows with the metadata of the file that they replace."""
    about = {key: value for key, value in pl.read_parquet_metadata(io.BytesIO(before)).items() if key != "ARROW:schema"}
    output = io.BytesIO()
    rows.write_parquet(output, metadata=about or None)
    return output.getvalue()


def _in_snapshots(store: Store, project: Project, erased: Erasures) -> bool:
    return any(
        erased.mask(rows["_id"]).any()
        for name in _manifests(store, project)
        for rows, _ in (_sides(store, project, name) or {}).values()
        if "_id" in rows.columns
    )


def _snapshots(
    store: Store, project: Project, erased: Erasures, trace: Trace, lock: Lock, since: float
) -> dict[str, str]:
    """Rewrite the snapshots that hold erased rows and return the new names by the old ones.

    Older snapshots are rewritten first, because newer ones refer to them.
    """
    names: dict[str, str] = {}
    manifests = _manifests(store, project)
    _remove_rewritten(store, project, manifests, lock)
    for name in sorted(manifests, key=lambda name: str(manifests[name][0].get("created", ""))):
        manifest, entry = manifests[name]
        if entry.modified < since:
            continue
        sides = _sides(store, project, name)
        if sides is None:
            trace.unreadable.append(name)
            continue
        before = {side: rows for side, (rows, _) in sides.items()}
        contents = {side: content for side, (_, content) in sides.items()}
        after = {side: _rest(rows, erased, trace, project) for side, rows in before.items()}
        if any(after[side].height < before[side].height for side in before):
            lock.check()
            trace.times += _times(before, erased)
            names[name] = _renamed(store, project, name, manifest, after, contents)
            objects.remove(store, _after_forward(store, project, name))
    return names


def _rest(rows: pl.DataFrame, erased: Erasures, trace: Trace, project: Project) -> pl.DataFrame:
    """Return the remaining rows of a side. Without ids (format 1), rows are matched by time and features of the log."""
    if "_id" in rows.columns:
        return erased.without(rows, "_id")
    features = [column.name for column in project.schema.features]
    for logged in trace.rows:
        named = logged.rename({"time": "_time"})
        keys = ["_time", *features]
        alike = named.select(pl.col(name).cast(rows.schema[name]) for name in keys)
        rows = rows.join(alike, on=keys, how="anti", nulls_equal=True, maintain_order="left")
    return rows


def _times(before: Mapping[str, pl.DataFrame], erased: Erasures) -> list[datetime]:
    """Return the prediction times of the erased rows, which the log may no longer hold."""
    frames = [rows for rows in before.values() if "_id" in rows.columns]
    return [time for rows in frames for time in rows.filter(erased.mask(rows["_id"]))["_time"] if time is not None]


def _states(store: Store, project: Project, erased: Erasures, lock: Lock, since: float) -> None:
    """Rewrite the states of snapshots, which hold rows that are in no snapshot."""
    for entry in store.entries(f"datasets/{project.name}"):
        if formats.is_state(entry.key) and entry.modified >= since:
            lock.check()
            _rewritten(store, entry.key, erased, "_id")


def _renamed(
    store: Store,
    project: Project,
    name: str,
    manifest: Mapping[str, Any],
    sides: Mapping[str, pl.DataFrame],
    contents: Mapping[str, bytes],
) -> str:
    """Write the rows under the hash of their content, and store the new name in the old folder."""
    digest = hashlib.sha256(json.dumps({side: rows.columns for side, rows in sides.items()}).encode())
    for side in SIDES:
        digest.update(f"\x1e{side}".encode())
        for line in row_texts(sides[side]):
            digest.update(f"\x1e{line}".encode())
    new = digest.hexdigest()[:16]
    folder = f"datasets/{project.name}/{new}"
    for side, rows in sides.items():
        store.write(f"{folder}/{side}.parquet", _parquet(rows, contents[side]))
    parent = manifest.get("parent")
    rewritten = dict(manifest) | {
        "snapshot": new,
        "train_rows": sides["train"].height,
        "holdout_rows": sides["holdout"].height,
        "rows": sides["train"].height + sides["holdout"].height,
        "feedback_rows": sum(rows.filter(pl.col("_origin") == "feedback").height for rows in sides.values()),
        "parent": erasure.current(store, project.name, parent) if parent else parent,
        "erased_from": name,
    }
    store.write(
        f"{folder}/manifest.json", json.dumps(rewritten, indent=1).encode()
    )  # last, because it makes the snapshot valid
    forward = json.dumps({"format": 1, "erased_into": new}).encode()
    store.write(f"datasets/{project.name}/{name}/{erasure.FORWARD}", forward)
    return new


def _remove_rewritten(store: Store, project: Project, manifests: Mapping[str, Any], lock: Lock) -> None:
    """Finish erasures that were killed while they removed an old snapshot."""
    keys = list(store.keys(f"datasets/{project.name}"))
    for name in {key.split("/")[2] for key in keys if key.endswith(f"/{erasure.FORWARD}")} - manifests.keys():
        left = _after_forward(store, project, name)
        if left:
            lock.check()
            objects.remove(store, left)


def _after_forward(store: Store, project: Project, name: str) -> list[str]:
    """Return the old folder's objects except the forward, the manifest first."""
    folder = f"datasets/{project.name}/{name}"
    keys = [key for key in store.keys(folder) if not key.endswith(f"/{erasure.FORWARD}")]
    return sorted(keys, key=lambda key: not key.endswith("/manifest.json"))


def _manifests(store: Store, project: Project) -> dict[str, tuple[dict[str, Any], Entry]]:
    """Return each snapshot's manifest and its entry, by name."""
    manifests = {}
    for entry in store.entries(f"datasets/{project.name}"):
        if entry.key.endswith("/manifest.json"):
            manifests[entry.key.split("/")[2]] = (json.loads(store.read(entry.key)), entry)
    return manifests


def _sides(store: Store, project: Project, name: str) -> dict[str, tuple[pl.DataFrame, bytes]] | None:
    """Return rows and content of both sides, or None if one can't be read."""
    sides = {}
    for side in SIDES:
        key = f"datasets/{project.name}/{name}/{side}.parquet"
        try:
            content = store.read(key)
            sides[side] = pl.read_parquet(content), content
        except (FileNotFoundError, pl.exceptions.PolarsError) as error:
            logger.warning("%s can't be read, and may hold the row: %s", key, error)
            return None
    return sides


def _reports(store: Store, project: Project, trace: Trace, snapshots: Mapping[str, str], lock: Lock) -> list[str]:
    """Remove reports whose window or reference held an erased row, and return their windows."""
    removed = []
    keys = list(store.keys(f"reports/{project.name}"))
    for key in (key for key in keys if key.endswith("/report.json")):
        about = json.loads(store.read(key))
        end = datetime.fromtimestamp(float(about["time"]), UTC)
        begin = end - timedelta(seconds=float(about["seconds"]))
        if about.get("snapshot") in snapshots or any(begin <= time <= end for time in trace.times):
            lock.check()
            folder = key.rpartition("/")[0]
            # report.json is removed last, so that a repeated erasure can find the rest.
            objects.remove(store, [*(other for other in keys if other.startswith(f"{folder}/") and other != key), key])
            removed.append(folder.rpartition("/")[2])
    return removed
