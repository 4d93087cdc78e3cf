"""The object store: immutable objects under one root, which is a folder or an S3 prefix.

Keys are relative POSIX paths such as `datasets/titanic/<hash>/train.parquet`. Writes are atomic: a reader sees the
complete object or none, even if the writer is killed.

On S3 (`s3://bucket/prefix`), address and credentials come from `AWS_ENDPOINT_URL`, `AWS_REGION` and
`AWS_SHARED_CREDENTIALS_FILE`, as for any AWS client, else from the role of the pod or the instance.
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
"""Seconds that `Store.lock` waits for another process by default."""
RETRIES: Final = {
    "max_retries": 10,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(seconds=0.5), "max_backoff": timedelta(seconds=10), "base": 2},
}
"""Retries of a call to S3. They cover a restart or failover of the store and end after a minute."""
CHUNK: Final = 8 << 20
"""Chunk size in bytes of a streamed object. S3 requires parts of at least 5 MiB."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object: its key, and the time of its last write in Unix seconds."""

    key: str
    modified: float
    mark: str = ""
    """An opaque value that changes with the content."""
    size: int = 0
    """Size in bytes."""


@dataclass(frozen=True, slots=True)
class Store:
    """Objects under `root`."""

    root: str

    @property
    def remote(self) -> bool:
        """Whether the root is an S3 prefix."""
        return "://" in self.root

    def path(self, key: str) -> Path:
        """The file of `key`. Raises PlatformError if the key is outside of the root, or the store is not a folder."""
        if self.remote:
            raise PlatformError(
                f"The store {self.root!r} is not a folder, but this step supports only folders",
                fix="Set PHASEFLOW_STORE to a folder",
            )
        root = Path(self.root).resolve()
        path = (root / key).resolve()
        if not path.is_relative_to(root):
            raise PlatformError(f"The key {key!r} leaves the store", fix="Use a relative key without '..'")
        return path

    def uri(self, key: str) -> str:
        """The address of `key` for other processes."""
        return f"{self.root.rstrip('/')}/{_checked(key)}" if self.remote else str(self.path(key))

    def exists(self, key: str) -> bool:
        """Whether the object exists."""
        if not self.remote:
            return self.path(key).exists()
        try:
            with _translated(self.root):
                _bucket(self.root).head(_checked(key))
        except FileNotFoundError:
            return False
        return True

    def read(self, key: str) -> bytes:
        """Read an object. Raises FileNotFoundError if it does not exist."""
        if not self.remote:
            return self.path(key).read_bytes()
        with _translated(self.root):
            return bytes(_bucket(self.root).get(_checked(key)).bytes())

    def write(self, key: str, content: bytes) -> str:
        """Write an object atomically and durably, and return its address.

        Raises PlatformError if the disk is full. Readers never see a partial object.
        """
        if self.remote:
            with _translated(self.root):
                _bucket(self.root).put(_checked(key), content, use_multipart=False)
        else:
            write_atomic(self.path(key), content)
        return self.uri(key)

    def delete(self, key: str) -> None:
        """Delete the object if it exists."""
        if not self.remote:
            self.path(key).unlink(missing_ok=True)
            return
        with contextlib.suppress(FileNotFoundError), _translated(self.root):
            _bucket(self.root).delete(_checked(key))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """List the objects in the folder `prefix`, sorted by key. Unfinished writes are not listed."""
        if self.remote:
            with _translated(self.root):
                entries = [
                    Entry(str(item["path"]), item["last_modified"].timestamp(), item["e_tag"] or "", item["size"])
                    for page in _bucket(self.root).list(_checked(prefix) or None)
                    for item in page
                ]
            yield from sorted(entries, key=lambda entry: entry.key)
            return
        base, root = self.path(prefix), Path(self.root).resolve()
        for path in sorted(base.rglob("*")):
            if path.name.startswith("."):
                continue
            with contextlib.suppress(FileNotFoundError):  # deleted in the meantime
                if path.is_file():
                    status = path.stat()
                    mark = f"{status.st_mtime_ns}-{status.st_size}"
                    yield Entry(path.relative_to(root).as_posix(), status.st_mtime, mark, status.st_size)

    def keys(self, prefix: str) -> Iterator[str]:
        """List the keys in the folder `prefix`, sorted."""
        return (entry.key for entry in self.entries(prefix))

    @contextlib.contextmanager
    def lock(self, name: str, patience: float = PATIENCE) -> Iterator[Lock]:
        """Acquire the lock `name`, which one process can hold at a time.

        If a process dies, its lock is free at once (folder) or after its lease expires (S3). Raises PlatformError if
        another process holds the lock for longer than `patience` seconds, or if the lock was lost in the meantime.
        """
        key, end = f"locks/{name}", time.monotonic() + patience
        attempts = _leased(self, key) if self.remote else _flocked(self.path(key))
        with contextlib.closing(attempts):
            while (lock := next(attempts)) is None:
                if time.monotonic() > end:
                    raise PlatformError(
                        f"Another process has held the lock {self.uri(key)} for {patience:.0f} s",
                        fix="Wait for it, or end it",
                    )
                time.sleep(0.5 if self.remote else 0.05)  # neither kind of lock supports a wait with a timeout
            yield lock
            next(attempts, None)  # releases the lock; raises PlatformError if it was lost

    def read_stream(self, key: str) -> Iterator[bytes]:
        """Read an object in chunks of about CHUNK bytes. Iteration raises FileNotFoundError if it does not exist."""
        if not self.remote:
            with self.path(key).open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
            return
        with _translated(self.root):
            for chunk in _bucket(self.root).get(_checked(key)).stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    def write_stream(self, key: str, chunks: Iterable[bytes]) -> str:
        """Write an object like `write`, with few chunks in memory. If `chunks` raises an exception, nothing changes."""
        if not self.remote:
            _write_chunks(self.path(key), chunks)
            return self.uri(key)
        # `put` with an iterator does not work here: no other object can be read within it.
        from obstore import open_writer  # noqa: PLC0415  # see _bucket

        with _translated(self.root):
            # A small object takes one request. An interrupted write of a large object leaves invisible parts.
            writer = open_writer(_bucket(self.root), _checked(key), buffer_size=CHUNK, max_concurrency=2)
        for chunk in chunks:
            with _writer_translated(self.root):
                writer.write(chunk)
        with _writer_translated(self.root):
            writer.close()
        return self.uri(key)


def _write_chunks(path: Path, chunks: Iterable[bytes]) -> None:
    """Write like `write_atomic`, chunk by chunk."""
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
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
    """Yield None while another process holds the lock, then the lock. The next step releases it."""
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
    """Like `_flocked`, for a lock that is an object."""
    lease = Lease(_bucket(store.root), key, store.uri(key), functools.partial(_translated, store.root))
    while not lease.take():
        yield None
    try:
        yield lease
    except GeneratorExit:
        with contextlib.suppress(PlatformError):  # an exception is already being raised
            lease.release()
        raise
    lease.release()


@functools.cache
def _bucket(root: str) -> Any:
    """Create the client of an S3 prefix. Raises PlatformError for any other address."""
    # Imported late, because a folder needs only the standard library, and most processes use a folder.
    from obstore.store import S3Store  # noqa: PLC0415

    scheme, _, rest = root.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise PlatformError(
            f"The store {root!r} is not a valid address",
            fix="Set PHASEFLOW_STORE to a folder or to `s3://bucket/prefix`",
        )
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    # Without an endpoint and credentials, the client uses AWS and the role of the pod.
    options: Any = {"endpoint": endpoint} if endpoint else {}
    options |= credentials(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", ""))
    return S3Store(
        bucket,
        prefix=prefix.strip("/") or None,
        region=os.environ.get("AWS_REGION") or "us-east-1",
        client_options={"allow_http": endpoint.startswith("http://"), "timeout": "60s"},
        retry_config=RETRIES,  # type: ignore[arg-type]  # a plain dictionary
        **options,
    )


def credentials(path: str) -> dict[str, str]:
    """The keys of the profile `default` in an AWS credentials file. Empty if there is no file."""
    parser = configparser.ConfigParser()
    if not path or not parser.read(path) or not parser.has_section("default"):
        return {}
    profile = parser["default"]
    return {
        "access_key_id": profile["aws_access_key_id"],
        "secret_access_key": profile["aws_secret_access_key"],
    }


@contextlib.contextmanager
def _translated(root: str) -> Iterator[None]:
    """Translate errors of the client to PlatformError, except for FileNotFoundError and the errors of a lost race."""
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
def _writer_translated(root: str) -> Iterator[None]:
    """Like `_translated`, for the writer of the client, which raises OSError."""
    try:
        with _translated(root):
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
    """Write `content` to `path` with a temporary file, fsync and rename.

    Raises PlatformError if the disk is full or the folder is not writable.
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
        with contextlib.suppress(OSError):  # the parent may not be a folder
            temporary.unlink()
        raise PlatformError(
            f"{path} can't be written: {error.strerror}", fix="Free disk space or correct the folder's permissions"
        ) from error


def write_result(path: Path, content: bytes) -> None:
    """Write a result to the file that the caller specified, atomically if possible.

    Files in /dev are written in place. The termination message of a pod is such a mounted file, which can't be
    replaced.
    """
    if path.is_relative_to("/dev"):
        path.write_bytes(content)
    else:
        write_atomic(path, content)
