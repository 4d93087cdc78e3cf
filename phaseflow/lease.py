"""A lock that is an object of a bucket, for processes on different machines.

The object says who holds it. Every change is a conditional write by the object's ETag, so that of two writers one fails. S3 has no
conditional delete that every implementation knows: a released lock is an object that says that it is free.

No clocks are compared. The holder renews its lease, which changes the ETag, and who waits takes over a lease that has not changed for
LEASE seconds of its own clock: its holder is dead. A holder whose renewals do not arrive stops counting on the lock before that time.
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
"""Seconds without a renewal after which a lease is over."""
RENEWALS: Final = 5
"""In the time of one lease: some of them may fail."""
Translate = Callable[[], AbstractContextManager[None]]
"""Makes the client's errors the platform's; a lost race stays obstore's."""


class Lock:
    """A lock that is held: a folder's, which can't be lost, or (as `Lease`) an object's."""

    def check(self) -> None:
        """Raise PlatformError when the lock is lost: another process may hold it by now. Call it before what can't be taken back."""


class Lease(Lock):
    """A lock by one object; `take` it, `check` it while at work, `release` it."""

    def __init__(self, bucket: Any, key: str, address: str, translate: Translate, seconds: float | None = None) -> None:
        self._bucket, self._key, self._address, self._translate = bucket, key, address, translate
        self._seconds = LEASE if seconds is None else seconds
        self._owner = uuid.uuid4().hex
        self._renewals = 0
        self._tag: str | None = None
        """The object's ETag while the lock is ours."""
        self._until = 0.0
        """When the lease that is ours ends, of the monotonic clock."""
        self._seen: tuple[str, float] = ("", 0.0)
        """The ETag of another's lease, and since when it has not changed."""
        self._released = threading.Event()
        self._renewing: threading.Thread | None = None

    def take(self) -> bool:
        """Try once; raises PlatformError when the store is away."""
        if not (self._put("create") or self._put_over_free_or_dead()):
            return False
        self._renewing = threading.Thread(target=self._renew, name=f"lease of {self._key}", daemon=True)
        self._renewing.start()
        return True

    def check(self) -> None:
        """Raise PlatformError when the lease is over or another's."""
        if self._tag is None or time.monotonic() >= self._until:
            raise self._lost()

    def release(self) -> None:
        """Free the lock if it is still ours; raises PlatformError when it was lost while it was held."""
        self._released.set()
        if self._renewing is not None:
            self._renewing.join()
        try:
            self.check()
        finally:
            if self._tag is not None and not self._free():
                raise self._lost()

    def _free(self) -> bool:
        """Whether nobody took the lock before; a store that is away leaves it to the end of its lease."""
        try:
            if self._write({"e_tag": self._tag}, free=True) is not None:
                return True
            held = self._read()
        except PlatformError:
            return True
        return held is not None and held[0].get("owner") == self._owner

    def _lost(self) -> PlatformError:
        return PlatformError(
            f"The lock {self._address} was lost: its lease of {self._seconds:g} s was not renewed in time",
            fix="See that the object store answers, then run it again",
        )

    def _renew(self) -> None:
        while not self._released.wait(self._seconds / RENEWALS):
            try:
                if not self._put({"e_tag": self._tag}):
                    self._tag = None
                    return
            except PlatformError:
                continue  # the next may arrive in time; else `check` says that the lease is over

    def _put_over_free_or_dead(self) -> bool:
        held = self._read()
        if held is None:
            return False  # gone meanwhile: the next try creates it
        content, tag = held
        now = time.monotonic()
        if tag != self._seen[0]:
            self._seen = (tag, now)
        dead = now - self._seen[1] >= self._seconds
        return bool(content.get("free") or dead) and self._put({"e_tag": tag})

    def _put(self, mode: str | dict[str, str | None]) -> bool:
        """Write our lease under that condition; whether the lock is ours then."""
        begun = time.monotonic()
        tag = self._write(mode)
        if tag is None:
            # A write whose answer got lost was repeated by the client, and fails by its own first try.
            held = self._read()
            if held is None or held[0].get("owner") != self._owner or held[0].get("free"):
                return False
            tag = held[1]
        self._tag, self._until = tag, begun + self._seconds
        return True

    def _write(self, mode: str | dict[str, str | None], *, free: bool = False) -> str | None:
        """The new ETag, or None where the condition does not hold."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError  # noqa: PLC0415  # a folder needs no obstore

        self._renewals += 1
        content = {"owner": self._owner, "renewals": self._renewals, "free": free}
        try:
            with self._translate():
                result = self._bucket.put(self._key, json.dumps(content).encode(), mode=mode, use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return None
        return str(result["e_tag"])

    def _read(self) -> tuple[dict[str, Any], str] | None:
        """The object's content and ETag, or None where there is none."""
        try:
            with self._translate():
                response = self._bucket.get(self._key)
                content, tag = bytes(response.bytes()), str(response.meta["e_tag"])
        except FileNotFoundError:
            return None
        try:
            value = json.loads(content)
        except ValueError:
            value = {}  # of another program: it is a holder that is never renewed
        return (value if isinstance(value, dict) else {}), tag
