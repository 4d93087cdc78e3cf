"""A distributed lock that is an object in a bucket, for processes on different machines.

The object contains the owner of the lock. Every change is a conditional write with the ETag of the object, so that one
of two concurrent writers fails. Not every implementation of S3 supports conditional deletes, so a released lock is an
object that is marked as free.

Clocks are not compared. The owner renews its lease, which changes the ETag. A waiting process takes over a lease that
has not changed for LEASE seconds of its own clock, since its owner must be dead. An owner whose renewals fail stops
relying on the lock before that time.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from phaseflow.errors import PlatformError

LEASE: Final = 30.0
"""Seconds without a renewal after which a lease expires."""
RENEWALS: Final = 5
"""Number of renewals per lease period, so that some of them may fail."""
Translate = Callable[[], AbstractContextManager[None]]
"""Translates the errors of the client to PlatformError, except for those of a lost race."""


class Lock:
    """An acquired lock. The lock of a folder can't be lost; the lock of an object (`Lease`) can."""

    def check(self) -> None:
        """Raise PlatformError if another process may hold the lock now. Call it before irreversible steps."""


class Lease(Lock):
    """A lock based on one object. `take` acquires it, `check` verifies it during the work, `release` frees it."""

    def __init__(self, bucket: Any, key: str, address: str, translate: Translate, seconds: float | None = None) -> None:
        self._bucket, self._key, self._address, self._translate = bucket, key, address, translate
        self._seconds = LEASE if seconds is None else seconds
        self._owner = uuid.uuid4().hex
        self._renewals = 0
        self._tag: str | None = None
        """The ETag of the object while this process holds the lock."""
        self._until = 0.0
        """Expiry of the lease of this process, on the monotonic clock."""
        self._observed: tuple[str, float] = ("", 0.0)
        """The ETag of the lease of another process, and the time since which it has not changed."""
        self._released = threading.Event()
        self._renewing: threading.Thread | None = None

    def take(self) -> bool:
        """Try to acquire the lock once. Raises PlatformError if the store is not available."""
        if not (self._put("create") or self._put_over_free_or_dead()):
            return False
        self._renewing = threading.Thread(target=self._renew, name=f"lease of {self._key}", daemon=True)
        self._renewing.start()
        return True

    def check(self) -> None:
        """Raise PlatformError if the lease has expired or another process holds it."""
        if self._tag is None or time.monotonic() >= self._until:
            raise self._lost()

    def release(self) -> None:
        """Release the lock. Raises PlatformError if it was lost in the meantime."""
        self._released.set()
        if self._renewing is not None:
            self._renewing.join()
        try:
            self.check()
        finally:
            if self._tag is not None and not self._free():
                raise self._lost()

    def _free(self) -> bool:
        """Mark the lock as free. Returns False if another process had taken it.

        If the store is not available, the lease expires by itself.
        """
        try:
            if self._write({"e_tag": self._tag}, free=True) is not None:
                return True
            current = self._read()
        except PlatformError:
            return True
        return current is not None and current[0].get("owner") == self._owner

    def _lost(self) -> PlatformError:
        return PlatformError(
            f"The lock {self._address} was lost: its lease of {self._seconds:g} s was not renewed in time",
            fix="Check that the object store responds, then run the command again",
        )

    def _renew(self) -> None:
        while not self._released.wait(self._seconds / RENEWALS):
            try:
                if not self._put({"e_tag": self._tag}):
                    self._tag = None
                    return
            except PlatformError:
                continue  # the next renewal may arrive in time; else `check` raises an error

    def _put_over_free_or_dead(self) -> bool:
        current = self._read()
        if current is None:
            return False  # deleted in the meantime: the next attempt creates it
        content, tag = current
        now = time.monotonic()
        if tag != self._observed[0]:
            self._observed = (tag, now)
        dead = now - self._observed[1] >= self._seconds
        return bool(content.get("free") or dead) and self._put({"e_tag": tag})

    def _put(self, mode: str | dict[str, str | None]) -> bool:
        """Write a lease under the condition `mode`. Returns whether this process holds the lock afterwards."""
        start = time.monotonic()
        tag = self._write(mode)
        if tag is None:
            # The response to a successful write may be lost. The client then repeats the write, which fails.
            current = self._read()
            if current is None or current[0].get("owner") != self._owner or current[0].get("free"):
                return False
            tag = current[1]
        self._tag, self._until = tag, start + self._seconds
        return True

    def _write(self, mode: str | dict[str, str | None], *, free: bool = False) -> str | None:
        """Write the object and return its new ETag, or None if the condition does not hold."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError  # noqa: PLC0415  # only needed for S3

        self._renewals += 1
        content = {"owner": self._owner, "renewals": self._renewals, "free": free}
        try:
            with self._translate():
                result = self._bucket.put(self._key, json.dumps(content).encode(), mode=mode, use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return None
        return str(result["e_tag"])

    def _read(self) -> tuple[dict[str, Any], str] | None:
        """Read the content and the ETag of the object. Returns None if it does not exist."""
        try:
            with self._translate():
                response = self._bucket.get(self._key)
                content, tag = bytes(response.bytes()), str(response.meta["e_tag"])
        except FileNotFoundError:
            return None
        try:
            value = json.loads(content)
        except ValueError:
            value = {}  # written by another program: treat it as a lease that is never renewed
        return (value if isinstance(value, dict) else {}), tag
