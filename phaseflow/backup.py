"""`python -m phaseflow.backup save|restore|prune|list`: a store's objects and the databases' dumps, together, and back.

A backup is `<target>/backups/<time>/`: the dumps, and a manifest of every object's SHA-256, written last, so that what has no
manifest is no backup. Contents are `<target>/objects/<sha256>`: what does not change is kept once, and never overwritten.

Dumps are made before the objects are listed, and put back after them: a database never names an object that is not there.

Saving removes nothing: its key need not be able to. `prune` does, and each of them has the target to itself. It exits with 1 where
another try may help (the store is away, another holds the lock), with 2 where it does not.
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

from phaseflow import formats
from phaseflow.errors import PermanentError, PhaseflowError
from phaseflow.lease import Lock
from phaseflow.store import CHUNK, Store

LEFT_OUT: Final = ("locks/", "store/locks/")
"""A lock is held by a process that is gone when it is restored."""
PATIENCE: Final = 60.0
"""Seconds that an action waits for another on the same target."""


def save(source: Store, target: Store, dumps: Path, now: datetime) -> dict[str, Any]:
    """Back up the objects of `source` and the files of `dumps`; gives counts.

    Raises PlatformError when another action works on `target`, or its last backup has an unknown format.
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
        lock.check()  # else what it names may be gone
        target.write(f"backups/{name}/manifest.json", json.dumps(manifest).encode())
    return {"backup": name, "objects": len(objects), "copied": copied, "dumps": len(files)}


def _saved(
    source: Store, target: Store, before: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, Mapping[str, str]], int]:
    """The manifest's objects by key, and how many contents are new; what is marked as in `before` is not read again."""
    inside = target.root.removeprefix(source.root).strip("/") + "/" if target.root.startswith(source.root) else None
    objects: dict[str, Mapping[str, str]] = {}
    copied = 0
    for entry in source.entries(""):
        if entry.key.startswith(LEFT_OUT) or (inside and entry.key.startswith(inside)):
            continue
        same = before.get(entry.key)
        if same and entry.mark and same["mark"] == entry.mark:
            objects[entry.key] = same
            continue
        try:
            sha256, new = _copied(source, entry.key, target)
        except FileNotFoundError:  # removed meanwhile
            continue
        copied += new
        objects[entry.key] = {"sha256": sha256, "mark": entry.mark}
    return objects, copied


def _copied(source: Store, key: str, target: Store) -> tuple[str, bool]:
    """Bring the object's content to the target; gives its SHA-256, and whether the target did not have it.

    Its name there is known at its end only, so a large one waits on the disk.
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
    """Write the objects of the backup `at` (the last where empty) back to `source`, its dumps into the folder `dumps`.

    Raises PermanentError when there is no such backup or one of its contents is not what was saved, PlatformError when its
    format is unknown or another action works on `target`.
    """
    with target.lock("backup", PATIENCE):
        names = backups(target)
        name = at or (names[-1] if names else "")
        if name not in names:
            raise PermanentError(
                f"There is no backup {name!r} in {target.root}; found: {', '.join(names) or 'none'}",
                fix="Name one of them",
            )
        manifest = _manifest(target, name)
        for key, held in manifest["objects"].items():
            source.write_stream(key, _verified(target, held["sha256"], f"{key} in the backup {name}"))
        for file in manifest["dumps"]:
            Store(str(dumps)).write_stream(file, target.read_stream(f"backups/{name}/{file}"))
    return {"backup": name, "objects": len(manifest["objects"]), "dumps": len(manifest["dumps"])}


def _verified(target: Store, sha256: str, what: str) -> Iterator[bytes]:
    """The content's pieces; raises PermanentError after the last where they are not those that were saved, so that nothing is written."""
    digest = hashlib.sha256()
    try:
        for piece in target.read_stream(f"objects/{sha256}"):
            digest.update(piece)
            yield piece
    except FileNotFoundError as error:
        raise PermanentError(f"{what} is missing", fix="Restore an older one by `--at`") from error
    if digest.hexdigest() != sha256:
        raise PermanentError(f"{what} is damaged", fix="Restore an older one by `--at`")


def prune(target: Store, keep: int) -> dict[str, Any]:
    """Remove all backups but the last `keep`, and what only they need; gives counts.

    Raises PlatformError when another action works on `target`, or a backup has an unknown format.
    """
    with target.lock("backup", PATIENCE) as lock:
        names = backups(target)
        old, new = names[:-keep], names[-keep:]
        # Read first: what can't be read needs what it needs.
        needed = {held["sha256"] for name in new for held in _manifest(target, name)["objects"].values()}
        for name in old:
            lock.check()
            target.delete(f"backups/{name}/manifest.json")  # first: what has no manifest is no backup
        contents = _removed(target, needed, lock) if old else 0
        # Also the parts of those that were broken off; of which none is being made now.
        for key in list(target.keys("backups")):
            if key.split("/")[1] not in new:
                lock.check()
                target.delete(key)
    return {"backups": len(new), "removed": len(old), "contents": contents}


def _removed(target: Store, needed: Set[str], lock: Lock) -> int:
    """Remove the contents that are not needed; how many those were."""
    unneeded = [key for key in target.keys("objects") if key.split("/")[1] not in needed]
    for key in unneeded:
        lock.check()
        target.delete(key)
    return len(unneeded)


def backups(target: Store) -> list[str]:
    """Names of the whole backups, the oldest first."""
    end = "/manifest.json"
    return [key.split("/")[1] for key in target.keys("backups") if key.endswith(end)]


def _manifest(target: Store, name: str) -> dict[str, Any]:
    """Raises PlatformError for a format that this release does not read."""
    manifest: dict[str, Any] = json.loads(target.read(f"backups/{name}/manifest.json"))
    formats.require(f"The backup {name} in {target.root}", manifest.get("format"), formats.BACKUP)
    return manifest


def main(arguments: list[str] | None = None) -> int:
    """Do it."""
    parser = argparse.ArgumentParser(prog="phaseflow.backup")
    actions = parser.add_subparsers(dest="action", required=True)
    for action in ("save", "restore", "prune", "list"):
        options = actions.add_parser(action)
        if action in {"save", "restore"}:
            options.add_argument("source", help="folder or s3://bucket that is backed up")
        options.add_argument("target", help="folder or s3://bucket/prefix of the backups")
        if action in {"save", "restore"}:
            options.add_argument("dumps", type=Path, help="folder of the databases' dumps")
        if action == "restore":
            options.add_argument("--at", default="", help="a backup's name; the last where empty")
        if action == "prune":
            options.add_argument("--keep", type=int, default=14, help="backups that stay")
    given = parser.parse_args(arguments)
    target = Store(given.target)
    try:
        if given.action == "save":
            done: Any = save(Store(given.source), target, given.dumps, datetime.now(UTC))
        elif given.action == "restore":
            done = restore(Store(given.source), target, given.dumps, given.at)
        elif given.action == "prune":
            done = prune(target, max(1, given.keep))
        else:
            done = backups(target)
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    print(json.dumps(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
