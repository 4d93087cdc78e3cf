"""`python -m services.backup save|restore|prune|list` saves a store's objects together with database dumps, and restores them.

A backup is the folder `<target>/backups/<time>/` with the dumps and a manifest of every object's SHA-256. The manifest is written last:
a folder without one is not a backup. Contents are stored as `<target>/objects/<sha256>`: unchanged contents are stored once and never
overwritten.

Dumps are made before the objects are listed, and restored after them, so that a database never refers to an object that does not exist.

`save` removes nothing, so its key needs no permission to delete. `prune` does. Each action locks the target. The exit status is 1 if a
retry may help (the store is unavailable, another process holds the lock), and 2 if it would not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from phaseflow import errors, formats, log
from phaseflow.errors import PermanentError, PhaseflowError
from phaseflow.lease import Lock
from phaseflow.settings import from_environment
from phaseflow.store import CHUNK, Store

EXCLUDED: Final = ("locks/", "store/locks/")
"""Locks are not saved: their holder does not exist when they are restored."""
PATIENCE: Final = 60.0
"""Seconds to wait for another action on the same target."""


def save(source: Store, target: Store, dumps: Path, now: datetime) -> dict[str, Any]:
    """Back up the objects of `source` and the files in the folder `dumps`; returns counts.

    Raises PlatformError if another action is using `target`, or if its last backup has an unknown format.
    """
    with target.lock("backup", PATIENCE) as lock:
        previous = backups(target)
        before = _manifest(target, previous[-1])["objects"] if previous else {}
        objects, copied = _saved(source, target, before)
        name = f"{now:%Y%m%dT%H%M%SZ}"
        files = sorted(path for path in dumps.glob("*") if path.is_file())
        for path in files:
            target.write_stream(f"backups/{name}/{path.name}", Store(str(dumps)).read_stream(path.name))
        manifest = {
            "format": formats.BACKUP,
            "time": now.isoformat(),
            "dumps": [path.name for path in files],
            "objects": objects,
        }
        lock.check()  # without the lock, `prune` may have removed contents that the manifest names
        target.write(f"backups/{name}/manifest.json", json.dumps(manifest).encode())
    return {"backup": name, "objects": len(objects), "copied": copied, "dumps": len(files)}


def _saved(
    source: Store, target: Store, before: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, Mapping[str, str]], int]:
    """The manifest's objects by key, and the number of new contents; objects with the same mark as in `before` are not read again."""
    inside = target.root.removeprefix(source.root).strip("/") + "/" if target.root.startswith(source.root) else None
    objects: dict[str, Mapping[str, str]] = {}
    copied = 0
    for entry in source.entries(""):
        if entry.key.startswith(EXCLUDED) or (inside and entry.key.startswith(inside)):
            continue
        unchanged = before.get(entry.key)
        if unchanged and entry.mark and unchanged["mark"] == entry.mark:
            objects[entry.key] = unchanged
            continue
        try:
            sha256, new = _copied(source, entry.key, target)
        except FileNotFoundError:  # it was removed meanwhile
            continue
        copied += new
        objects[entry.key] = {"sha256": sha256, "mark": entry.mark}
    return objects, copied


def _copied(source: Store, key: str, target: Store) -> tuple[str, bool]:
    """Copy an object's content to the target; returns its SHA-256, and whether the content was new there.

    The hash is only known at the end, so large contents are buffered on disk.
    """
    digest = hashlib.sha256()
    with tempfile.SpooledTemporaryFile(max_size=CHUNK) as content:
        for piece in source.read_stream(key):
            digest.update(piece)
            content.write(piece)
        name = f"objects/{digest.hexdigest()}"
        new = not target.exists(name)
        if new:
            content.seek(0)
            target.write_stream(name, iter(lambda: content.read(CHUNK), b""))
    return digest.hexdigest(), new


def restore(source: Store, target: Store, dumps: Path, at: str) -> dict[str, Any]:
    """Restore the objects of the backup `at` (the last one if empty) to `source`, and its dumps to the folder `dumps`.

    Raises PermanentError if there is no such backup or if one of its contents is damaged, PlatformError if its format is unknown or if
    another action is using `target`.
    """
    with target.lock("backup", PATIENCE):
        names = backups(target)
        name = at or (names[-1] if names else "")
        if name not in names:
            raise PermanentError(
                f"There is no backup {name!r} in {target.root}; found: {', '.join(names) or 'none'}",
                fix="Name one of these backups",
            )
        manifest = _manifest(target, name)
        for key, content in manifest["objects"].items():
            source.write_stream(key, _verified(target, content["sha256"], f"{key} in the backup {name}"))
        for file in manifest["dumps"]:
            Store(str(dumps)).write_stream(file, target.read_stream(f"backups/{name}/{file}"))
    return {"backup": name, "objects": len(manifest["objects"]), "dumps": len(manifest["dumps"])}


def _verified(target: Store, sha256: str, what: str) -> Iterator[bytes]:
    """Yield the content in pieces; raises PermanentError after the last piece if the hash differs, so that the object is not written."""
    digest = hashlib.sha256()
    try:
        for piece in target.read_stream(f"objects/{sha256}"):
            digest.update(piece)
            yield piece
    except FileNotFoundError as error:
        raise PermanentError(f"{what} is missing", fix="Restore an older backup with `--at`") from error
    if digest.hexdigest() != sha256:
        raise PermanentError(f"{what} is damaged", fix="Restore an older backup with `--at`")


def prune(target: Store, keep: int) -> dict[str, Any]:
    """Remove all backups except the last `keep`, and the contents that only the removed ones need; returns counts.

    Raises PlatformError if another action is using `target`, or if a backup has an unknown format.
    """
    with target.lock("backup", PATIENCE) as lock:
        names = backups(target)
        old, new = names[:-keep], names[-keep:]
        # All manifests are read before anything is removed: the contents of an unreadable backup must stay.
        needed = {content["sha256"] for name in new for content in _manifest(target, name)["objects"].values()}
        for name in old:
            lock.check()
            target.delete(f"backups/{name}/manifest.json")  # first: a folder without a manifest is not a backup
        contents = _removed(target, needed, lock) if old else 0
        # This includes the remains of interrupted backups; the lock rules out that one is being made.
        for key in list(target.keys("backups")):
            if key.split("/")[1] not in new:
                lock.check()
                target.delete(key)
    return {"backups": len(new), "removed": len(old), "contents": contents}


def _removed(target: Store, needed: Set[str], lock: Lock) -> int:
    """Remove the contents that are not needed; returns their number."""
    unneeded = [key for key in target.keys("objects") if key.split("/")[1] not in needed]
    for key in unneeded:
        lock.check()
        target.delete(key)
    return len(unneeded)


def backups(target: Store) -> list[str]:
    """Names of the complete backups, oldest first."""
    end = "/manifest.json"
    return [key.split("/")[1] for key in target.keys("backups") if key.endswith(end)]


def _manifest(target: Store, name: str) -> dict[str, Any]:
    """Read the manifest of a backup; raises PlatformError if this release can't read its format."""
    manifest: dict[str, Any] = json.loads(target.read(f"backups/{name}/manifest.json"))
    formats.require(f"The backup {name} in {target.root}", manifest.get("format"), formats.BACKUP)
    return manifest


def main(arguments: list[str] | None = None) -> int:
    """Run the action, and print its result as JSON."""
    parser = argparse.ArgumentParser(prog="services.backup")
    actions = parser.add_subparsers(dest="action", required=True)
    for action in ("save", "restore", "prune", "list"):
        options = actions.add_parser(action)
        if action in {"save", "restore"}:
            options.add_argument("source", help="folder or s3://bucket to back up or to restore to")
        options.add_argument("target", help="folder or s3://bucket/prefix of the backups")
        if action in {"save", "restore"}:
            options.add_argument("dumps", type=Path, help="folder of the database dumps")
        if action == "restore":
            options.add_argument("--at", default="", help="name of the backup; by default the last one")
        if action == "prune":
            options.add_argument("--keep", type=int, default=14, help="number of backups to keep")
    args = parser.parse_args(arguments)
    log.configure("backup", from_environment().log_format)
    target = Store(args.target)
    try:
        if args.action == "save":
            result: Any = save(Store(args.source), target, args.dumps, datetime.now(UTC))
        elif args.action == "restore":
            result = restore(Store(args.source), target, args.dumps, args.at)
        elif args.action == "prune":
            result = prune(target, max(1, args.keep))
        else:
            result = backups(target)
    except PhaseflowError as error:
        return errors.report(error)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
