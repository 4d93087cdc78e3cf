"""`python -m phaseflow.backup save|restore|list`: a store's objects and the databases' dumps, together, and back.

A backup is `<target>/backups/<time>/`: the dumps, and a manifest of every object's SHA-256, written last, so that what has no
manifest is no backup. Contents are `<target>/objects/<sha256>`: what does not change is kept once, and never overwritten.

Dumps are made before the objects are listed, and put back after them: a database never names an object that is not there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from phaseflow import formats
from phaseflow.errors import PermanentError, PhaseflowError
from phaseflow.store import Store, write_atomic

LEFT_OUT: Final = ("locks/", "store/locks/")
"""A lock is held by a process that is gone when it is restored."""


def save(source: Store, target: Store, dumps: Path, keep: int, now: datetime) -> dict[str, Any]:
    """Back up the objects of `source` and the files of `dumps`; gives counts.

    Of the backups in `target` the last `keep` stay, and what only older ones need goes.
    """
    old = backups(target)
    known = _manifest(target, old[-1])["objects"] if old else {}
    own = target.root.removeprefix(source.root).strip("/") + "/" if target.root.startswith(source.root) else None
    objects: dict[str, dict[str, str]] = {}
    copied = 0
    for entry in source.entries(""):
        if entry.key.startswith(LEFT_OUT) or (own and entry.key.startswith(own)):
            continue
        before = known.get(entry.key)
        if before and entry.mark and before["mark"] == entry.mark:
            objects[entry.key] = before
            continue
        try:
            content = source.read(entry.key)
        except FileNotFoundError:  # removed meanwhile
            continue
        sha256 = hashlib.sha256(content).hexdigest()
        if not target.exists(f"objects/{sha256}"):
            target.write(f"objects/{sha256}", content)
            copied += 1
        objects[entry.key] = {"sha256": sha256, "mark": entry.mark}
    name = f"{now:%Y%m%dT%H%M%SZ}"
    files = sorted(path for path in dumps.glob("*") if path.is_file())
    for path in files:
        target.write(f"backups/{name}/{path.name}", path.read_bytes())
    manifest = {
        "format": formats.BACKUP,
        "time": now.isoformat(),
        "dumps": [path.name for path in files],
        "objects": objects,
    }
    target.write(f"backups/{name}/manifest.json", json.dumps(manifest).encode())
    removed = _forget(target, backups(target)[:-keep])
    return {"backup": name, "objects": len(objects), "copied": copied, "dumps": len(files), "removed": removed}


def restore(source: Store, target: Store, dumps: Path, at: str) -> dict[str, Any]:
    """Write the objects of the backup `at` (the last where empty) back to `source`, its dumps into the folder `dumps`.

    Raises PermanentError when there is no such backup, or one of its contents is not what was saved.
    """
    known = backups(target)
    name = at or (known[-1] if known else "")
    if name not in known:
        raise PermanentError(
            f"There is no backup {name!r} in {target.root}; found: {', '.join(known) or 'none'}", fix="Name one of them"
        )
    manifest = _manifest(target, name)
    for key, held in manifest["objects"].items():
        content = target.read(f"objects/{held['sha256']}")
        if hashlib.sha256(content).hexdigest() != held["sha256"]:
            raise PermanentError(f"{key} in the backup {name} is damaged", fix="Restore an older one by `--at`")
        source.write(key, content)
    for file in manifest["dumps"]:
        write_atomic(dumps / file, target.read(f"backups/{name}/{file}"))
    return {"backup": name, "objects": len(manifest["objects"]), "dumps": len(manifest["dumps"])}


def backups(target: Store) -> list[str]:
    """Names of the whole backups, the oldest first."""
    end = "/manifest.json"
    return [key.split("/")[1] for key in target.keys("backups") if key.endswith(end)]


def _manifest(target: Store, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(target.read(f"backups/{name}/manifest.json"))
    formats.require(f"The backup {name} in {target.root}", found.get("format"), formats.BACKUP)
    return found


def _forget(target: Store, old: Iterable[str]) -> int:
    """Remove backups, manifests first; then contents that no other one names."""
    gone = list(old)
    if not gone:
        return 0
    for name in gone:
        target.delete(f"backups/{name}/manifest.json")
        for key in list(target.keys(f"backups/{name}")):
            target.delete(key)
    needed = {held["sha256"] for name in backups(target) for held in _objects(target, name).values()}
    for key in list(target.keys("objects")):
        if key.split("/")[1] not in needed:
            target.delete(key)
    return len(gone)


def _objects(target: Store, name: str) -> Mapping[str, Mapping[str, str]]:
    found: Mapping[str, Mapping[str, str]] = _manifest(target, name)["objects"]
    return found


def main(arguments: list[str] | None = None) -> int:
    """Do it."""
    parser = argparse.ArgumentParser(prog="phaseflow.backup")
    parser.add_argument("action", choices=("save", "restore", "list"))
    parser.add_argument("source", help="folder or s3://bucket that is backed up")
    parser.add_argument("target", help="folder or s3://bucket/prefix of the backups")
    parser.add_argument("dumps", type=Path, help="folder of the databases' dumps")
    parser.add_argument("--keep", type=int, default=14, help="backups that stay (save)")
    parser.add_argument("--at", default="", help="a backup's name (restore); the last where empty")
    told = parser.parse_args(arguments)
    source, target = Store(told.source), Store(told.target)
    try:
        if told.action == "save":
            done: Any = save(source, target, told.dumps, max(1, told.keep), datetime.now(UTC))
        elif told.action == "restore":
            done = restore(source, target, told.dumps, told.at)
        else:
            done = backups(target)
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    print(json.dumps(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
