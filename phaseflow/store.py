"""The store: immutable objects under one root, a folder or (by the same calls) an S3 prefix.

Keys are relative POSIX paths such as `datasets/titanic/<hash>/train.parquet`. A write is atomic: a reader sees the
whole object or none, also when the writer is killed.

On S3 (`s3://bucket/prefix`) the address and the credentials are those of every AWS client: `AWS_ENDPOINT_URL`,
`AWS_REGION`, `AWS_SHARED_CREDENTIALS_FILE`, else the pod's or the instance's own role.
"""

from __future__ import annotations

import configparser
import contextlib
import errno
import fcntl
import functools
import os
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from phaseflow.errors import PlatformError
from phaseflow.lease import Lease, Lock

PATIENCE: Final = 60.0
"""Seconds that `Store.lock` waits for another holder."""
RETRIES: Final = {
    "max_retries": 10,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(seconds=0.5), "max_backoff": timedelta(seconds=10), "base": 2},
}
"""Of a call to S3. A store that restarts or fails over is away for seconds: the pauses grow to that, and end after a minute."""
CHUNK: Final = 8 << 20
"""Bytes of a piece of a streamed object; S3 takes parts of 5 MiB or more."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object: its key, and when it was written, in unix seconds."""

    key: str
    modified: float
    mark: str = ""
    """Changes when the content does."""
    size: int = 0
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Store:
    """Objects under `root`."""

    root: str

    @property
    def remote(self) -> bool:
        """Whether the root is an S3 prefix."""
        return "://" in self.root

    def path(self, key: str) -> Path:
        """The file of `key`; raises PlatformError when the key leaves the root or the store is not a folder."""
        if self.remote:
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
        return f"{self.root.rstrip('/')}/{_checked(key)}" if self.remote else str(self.path(key))

    def exists(self, key: str) -> bool:
        """Whether the object is there."""
        if not self.remote:
            return self.path(key).exists()
        try:
            with _said(self.root):
                _bucket(self.root).head(_checked(key))
        except FileNotFoundError:
            return False
        return True

    def read(self, key: str) -> bytes:
        """The object's bytes; raises FileNotFoundError."""
        if not self.remote:
            return self.path(key).read_bytes()
        with _said(self.root):
            return bytes(_bucket(self.root).get(_checked(key)).bytes())

    def write(self, key: str, content: bytes) -> str:
        """Write atomically and durably, and return the object's address.

        Raises PlatformError when the disk is full; a partial object is never seen.
        """
        if self.remote:
            with _said(self.root):
                _bucket(self.root).put(_checked(key), content, use_multipart=False)
        else:
            write_atomic(self.path(key), content)
        return self.uri(key)

    def delete(self, key: str) -> None:
        """Remove the object; one that is gone already is no error."""
        if not self.remote:
            self.path(key).unlink(missing_ok=True)
            return
        with contextlib.suppress(FileNotFoundError), _said(self.root):
            _bucket(self.root).delete(_checked(key))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Objects under the folder `prefix`, by key; unfinished writes are not listed."""
        if self.remote:
            with _said(self.root):
                found = [
                    Entry(str(one["path"]), one["last_modified"].timestamp(), one["e_tag"] or "", one["size"])
                    for part in _bucket(self.root).list(_checked(prefix) or None)
                    for one in part
                ]
            yield from sorted(found, key=lambda entry: entry.key)
            return
        base, root = self.path(prefix), Path(self.root).resolve()
        for path in sorted(base.rglob("*")):
            if path.name.startswith("."):
                continue
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                if path.is_file():
                    about = path.stat()
                    mark = f"{about.st_mtime_ns}-{about.st_size}"
                    yield Entry(path.relative_to(root).as_posix(), about.st_mtime, mark, about.st_size)

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys under the folder `prefix`, sorted."""
        return (entry.key for entry in self.entries(prefix))

    @contextlib.contextmanager
    def lock(self, name: str, patience: float = PATIENCE) -> Iterator[Lock]:
        """Hold the lock `name`, one process at a time; a dead holder's is free at once (folder) or after a lease (S3).

        Raises PlatformError when another holds it for longer than `patience` seconds, and when it was lost while it was held.
        """
        key, end = f"locks/{name}", time.monotonic() + patience
        held = _leased(self, key) if self.remote else _flocked(self.path(key))
        with contextlib.closing(held):
            while (lock := next(held)) is None:
                if time.monotonic() > end:
                    raise PlatformError(
                        f"Another process has held the lock {self.uri(key)} for {patience:.0f} s",
                        fix="Wait for it, or end it",
                    )
                time.sleep(0.5 if self.remote else 0.05)  # neither kind of lock has a wait with a deadline
            yield lock
            next(held, None)  # released; raises where it was lost

    def read_stream(self, key: str) -> Iterator[bytes]:
        """The object's bytes in pieces of about CHUNK; raises FileNotFoundError, at the first piece."""
        if not self.remote:
            with self.path(key).open("rb") as file:
                while piece := file.read(CHUNK):
                    yield piece
            return
        with _said(self.root):
            for piece in _bucket(self.root).get(_checked(key)).stream(min_chunk_size=CHUNK):
                yield bytes(piece)

    def write_stream(self, key: str, pieces: Iterable[bytes]) -> str:
        """As `write`, with a few pieces in memory at a time. Where `pieces` raises, there is no object, or the old one stays."""
        if not self.remote:
            _write_pieces(self.path(key), pieces)
            return self.uri(key)
        # Not the client's own call for an iterator: within it no other object can be read.
        from obstore import open_writer  # noqa: PLC0415  # see _bucket

        with _said(self.root):
            # A small one goes in one request; of a large one that is broken off, parts that nobody sees stay in the store.
            writer = open_writer(_bucket(self.root), _checked(key), buffer_size=CHUNK, max_concurrency=2)
        for piece in pieces:
            with _written(self.root):
                writer.write(piece)
        with _written(self.root):
            writer.close()
        return self.uri(key)


def _write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """As `write_atomic`, piece by piece."""
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS}:
            raise PlatformError(
                f"{path} can't be written: {error.strerror}",
                fix="Free disk space or correct the folder's permissions",
            ) from error
        raise


def _flocked(path: Path) -> Generator[Lock | None]:
    """None while the lock is another's, then the lock; it is free again after that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                yield None
        yield Lock()


def _leased(store: Store, key: str) -> Generator[Lock | None]:
    """As `_flocked`, by an object."""
    lease = Lease(_bucket(store.root), key, store.uri(key), functools.partial(_said, store.root))
    while not lease.take():
        yield None
    try:
        yield lease
    except GeneratorExit:
        with contextlib.suppress(PlatformError):  # the work failed already
            lease.release()
        raise
    lease.release()


@functools.cache
def _bucket(root: str) -> Any:
    """The client of an S3 prefix; raises PlatformError for another kind of address."""
    # Late: a folder needs nothing but the standard library, and most processes have a folder.
    from obstore.store import S3Store  # noqa: PLC0415

    scheme, _, rest = root.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise PlatformError(
            f"The store {root!r} is no address of ours",
            fix="Set PHASEFLOW_STORE to a folder or to `s3://bucket/prefix`",
        )
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    # Left out where there is none: the client then asks AWS, and the pod's own role.
    known: Any = {"endpoint": endpoint} if endpoint else {}
    known |= credentials(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", ""))
    return S3Store(
        bucket,
        prefix=prefix.strip("/") or None,
        region=os.environ.get("AWS_REGION") or "us-east-1",
        client_options={"allow_http": endpoint.startswith("http://"), "timeout": "60s"},
        retry_config=RETRIES,  # type: ignore[arg-type]  # a plain dictionary
        **known,
    )


def credentials(path: str) -> dict[str, str]:
    """Keys of the profile `default` of an AWS credentials file; none where there is no file."""
    found = configparser.ConfigParser()
    if not path or not found.read(path) or not found.has_section("default"):
        return {}
    profile = found["default"]
    return {
        "access_key_id": profile["aws_access_key_id"],
        "secret_access_key": profile["aws_secret_access_key"],
    }


@contextlib.contextmanager
def _said(root: str) -> Iterator[None]:
    """The client's errors as ours; what is not there stays FileNotFoundError, a lost race stays obstore's."""
    from obstore import exceptions  # noqa: PLC0415  # see _bucket

    try:
        yield
    except (FileNotFoundError, exceptions.AlreadyExistsError, exceptions.PreconditionError):
        raise
    except exceptions.BaseError as error:
        raise PlatformError(
            f"The store {root} does not do what was asked: {str(error).splitlines()[0][:300]}",
            fix="Look at the object store, AWS_ENDPOINT_URL and AWS_SHARED_CREDENTIALS_FILE",
        ) from error


@contextlib.contextmanager
def _written(root: str) -> Iterator[None]:
    """As `_said`, for the client's writer, whose errors are the system's."""
    try:
        with _said(root):
            yield
    except OSError as error:
        raise PlatformError(
            f"The store {root} does not do what was asked: {str(error).splitlines()[0][:300]}",
            fix="Look at the object store, AWS_ENDPOINT_URL and AWS_SHARED_CREDENTIALS_FILE",
        ) from error


def _checked(key: str) -> str:
    if key.startswith("/") or ".." in key.split("/"):
        raise PlatformError(f"The key {key!r} leaves the store", fix="Use a relative key without '..'")
    return key


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
        with contextlib.suppress(OSError):  # the parent may be no folder
            temporary.unlink()
        raise PlatformError(
            f"{path} can't be written: {error.strerror}", fix="Free disk space or correct the folder's permissions"
        ) from error


def hand_over(path: Path, content: bytes) -> None:
    """Write a result to the file that the caller named: atomically, or in place where the caller has mounted it.

    A pod's termination message is such a file: nothing can be renamed over it.
    """
    if path.is_relative_to("/dev"):
        path.write_bytes(content)
    else:
        write_atomic(path, content)
