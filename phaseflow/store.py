"""The store: immutable objects under one root, a folder or (by the same calls) an S3 prefix.

Keys are relative POSIX paths such as `datasets/titanic/<hash>/train.parquet`. A write is atomic: a reader sees the
whole object or none, also when the writer is killed.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from phaseflow.errors import PlatformError


@dataclass(frozen=True, slots=True)
class Store:
    """Objects under `root`."""

    root: str

    def path(self, key: str) -> Path:
        """The file of `key`; raises PlatformError when the key leaves the root or the store is not a folder."""
        if "://" in self.root:
            raise PlatformError(
                f"The store {self.root!r} is not a folder, and this step works on folders only",
                fix="Set PHASEFLOW_STORE to a folder",
            )
        root = Path(self.root).resolve()
        path = (root / key).resolve()
        if not path.is_relative_to(root):
            raise PlatformError(f"The key {key!r} leaves the store", fix="Use a relative key without '..'")
        return path

    def uri(self, key: str) -> str:
        """Address of `key` for other processes."""
        return str(self.path(key))

    def exists(self, key: str) -> bool:
        """Whether the object is there."""
        return self.path(key).exists()

    def read(self, key: str) -> bytes:
        """The object's bytes; raises FileNotFoundError."""
        return self.path(key).read_bytes()

    def write(self, key: str, content: bytes) -> str:
        """Write atomically and durably, and return the object's address.

        Raises PlatformError when the disk is full; a partial object is never seen.
        """
        path = self.path(key)
        write_atomic(path, content)
        return str(path)

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys under the folder `prefix`, sorted; unfinished writes are not listed."""
        base = self.path(prefix)
        root = Path(self.root).resolve()
        for path in sorted(base.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(root).as_posix()


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write `content` to `path` by a temporary name, fsync and rename.

    Raises PlatformError when the disk is full or the folder can't be written.
    """
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PlatformError(
            f"{path} can't be written: {error.strerror}", fix="Free disk space or correct the folder's permissions"
        ) from error
