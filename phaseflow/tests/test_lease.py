"""Locks on an object store, with the conditional writes of the in-memory store of obstore, and an unavailable store."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from obstore.store import MemoryStore

from phaseflow import PlatformError, lease, store
from phaseflow.lease import Lease
from phaseflow.store import Store
from phaseflow.testing import Response, free_port, http_server, until

SECONDS = 0.5
"""Duration of the leases in these tests."""
KEY = "locks/promotion"


class Bucket:
    """A MemoryStore that can refuse writes, or lose the response to a successful write."""

    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.unavailable = False
        self.lose_response = False

    def put(self, key: str, content: bytes, **options: Any) -> Any:
        if self.unavailable:
            raise PlatformError("The store is not available", fix="Wait")
        result = self.memory.put(key, content, **options)
        if self.lose_response:  # the client repeats the write, which conflicts with its first attempt
            self.lose_response = False
            return self.memory.put(key, content, **options)
        return result

    def get(self, key: str) -> Any:
        return self.memory.get(key)

    def content(self) -> dict[str, Any]:
        return json.loads(bytes(self.memory.get(KEY).bytes()))


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def new_lease(bucket: Bucket, seconds: float = SECONDS) -> Lease:
    return Lease(bucket, KEY, f"s3://b/{KEY}", nullcontext, seconds)


LOST = (
    "The lock s3://b/locks/promotion was lost: its lease of 0.5 s was not renewed in time. "
    "Check that the object store responds, then run the command again."
)


def test_a_lease_has_one_owner_while_it_is_renewed(bucket: Bucket) -> None:
    first, second = new_lease(bucket), new_lease(bucket)
    assert first.take()
    start = time.monotonic()
    while time.monotonic() - start < 3 * SECONDS:
        assert not second.take()
        first.check()
        time.sleep(0.02)
    first.release()
    assert bucket.content()["free"]
    assert second.take()
    second.release()


def test_the_lease_of_a_dead_owner_is_taken_over_and_only_the_new_owner_can_release_it(bucket: Bucket) -> None:
    first, second, third = new_lease(bucket), new_lease(bucket), new_lease(bucket)
    assert first.take()
    bucket.unavailable = True
    until(lambda: _is_lost(first))
    bucket.unavailable = False
    first._released.set()  # like a stopped process, whose renewals no longer arrive
    assert first._renewing is not None
    first._renewing.join()
    until(second.take)
    owner = bucket.content()["owner"]
    with pytest.raises(PlatformError) as error:
        first.release()
    assert str(error.value) == LOST
    assert bucket.content()["owner"] == owner
    assert not third.take()
    second.check()
    second.release()
    assert third.take()
    third.release()


def _is_lost(lock: Lease) -> bool:
    try:
        lock.check()
    except PlatformError:
        return True
    return False


def test_an_owner_whose_lease_was_taken_over_fails_on_release(bucket: Bucket) -> None:
    first = new_lease(bucket, 30)  # long enough that it is neither expired nor renewed in this test
    assert first.take()
    tag = str(bucket.memory.get(KEY).meta["e_tag"])
    bucket.memory.put(KEY, json.dumps({"owner": "another"}).encode(), mode={"e_tag": tag})
    with pytest.raises(PlatformError, match="was lost"):
        first.release()
    assert bucket.content() == {"owner": "another"}


def test_a_write_whose_response_was_lost_counts_as_successful(bucket: Bucket) -> None:
    first = new_lease(bucket)
    bucket.lose_response = True
    assert first.take()
    bucket.lose_response = True
    until(lambda: not bucket.lose_response)
    renewed = bucket.content()["renewals"]
    until(lambda: bucket.content()["renewals"] > renewed)
    bucket.lose_response = True
    first.release()
    assert bucket.content()["free"]


def test_only_one_of_many_threads_holds_the_lock(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_bucket", lambda root: bucket)
    active, max_active, completed = [0], [0], []

    def work() -> None:
        with Store("s3://b").lock("promotion"):
            active[0] += 1
            max_active[0] = max(max_active[0], active[0])
            time.sleep(0.01)
            active[0] -= 1
        completed.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(completed), max_active[0]) == (4, 1)


def test_an_error_releases_the_lock_and_a_lost_lock_is_an_error(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_bucket", lambda root: bucket)
    monkeypatch.setattr(lease, "LEASE", SECONDS)
    with pytest.raises(ValueError, match="failure"), Store("s3://b").lock("promotion"):
        raise ValueError("failure")
    assert bucket.content()["free"]
    with pytest.raises(PlatformError, match="was lost"), Store("s3://b").lock("promotion") as lock:  # noqa: PT012
        bucket.unavailable = True
        until(lambda: _is_lost(lock))
    bucket.unavailable = False
    with (
        pytest.raises(PlatformError, match="Another process has held the lock s3://b/locks/promotion for 0 s"),
        Store("s3://b").lock("promotion"),
        Store("s3://b").lock("promotion", patience=0.1),
    ):
        pass


@pytest.fixture
def delay(monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    """An S3 server that starts after this number of seconds."""
    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE", raising=False)
    put = http_server(lambda _: Response(headers={"ETag": '"1"'}), port)
    seconds = 4.0
    with contextlib.ExitStack() as stack:
        timer = threading.Timer(seconds, stack.enter_context, [put])
        timer.start()
        store._bucket.cache_clear()
        yield seconds
        store._bucket.cache_clear()
        timer.cancel()


def test_a_write_waits_for_a_store_that_is_unavailable_for_seconds(delay: float) -> None:
    start = time.monotonic()
    assert Store("s3://bucket/prefix").write("a", b"content") == "s3://bucket/prefix/a"
    assert time.monotonic() - start >= delay - 0.5
