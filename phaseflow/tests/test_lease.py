"""A lock on an object store, by the conditional writes of obstore's own store in memory; and a store that is away for some seconds."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from obstore.store import MemoryStore

from phaseflow import PlatformError, lease, store
from phaseflow.lease import Lease
from phaseflow.store import Store

SECONDS = 0.5
"""The lease of these tests."""
KEY = "locks/promotion"


class Bucket:
    """A MemoryStore that can be made to refuse writes, and to lose the answer to one that it has done."""

    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.away = False
        self.silent = False

    def put(self, key: str, content: bytes, **options: Any) -> Any:
        if self.away:
            raise PlatformError("The store is away", fix="Wait")
        result = self.memory.put(key, content, **options)
        if self.silent:  # the client repeats it and its own first try is in the way
            self.silent = False
            return self.memory.put(key, content, **options)
        return result

    def get(self, key: str) -> Any:
        return self.memory.get(key)

    def content(self) -> dict[str, Any]:
        return json.loads(bytes(self.memory.get(KEY).bytes()))


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def new(bucket: Bucket, seconds: float = SECONDS) -> Lease:
    return Lease(bucket, KEY, f"s3://b/{KEY}", nullcontext, seconds)


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


LOST = (
    "The lock s3://b/locks/promotion was lost: its lease of 0.5 s was not renewed in time. "
    "See that the object store answers, then run it again."
)


def test_a_lease_is_one_holder_s_as_long_as_it_is_renewed(bucket: Bucket) -> None:
    first, second = new(bucket), new(bucket)
    assert first.take()
    begun = time.monotonic()
    while time.monotonic() - begun < 3 * SECONDS:
        assert not second.take()
        first.check()
        time.sleep(0.02)
    first.release()
    assert bucket.content()["free"]
    assert second.take()
    second.release()


def test_a_dead_holder_s_lease_is_taken_over_and_can_be_released_by_nobody_else(bucket: Bucket) -> None:
    first, second, third = new(bucket), new(bucket), new(bucket)
    assert first.take()
    bucket.away = True
    until(lambda: _is_lost(first))
    bucket.away = False
    first._released.set()  # as a holder that was stopped: no renewal of it arrives any more
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


def _is_lost(held: Lease) -> bool:
    try:
        held.check()
    except PlatformError:
        return True
    return False


def test_a_holder_whose_lease_was_taken_over_says_so_at_the_next_check(bucket: Bucket) -> None:
    first = new(bucket, 30)  # it would count on its lease for long, and its next renewal is in seconds
    assert first.take()
    tag = str(bucket.memory.get(KEY).meta["e_tag"])
    bucket.memory.put(KEY, json.dumps({"owner": "another"}).encode(), mode={"e_tag": tag})
    with pytest.raises(PlatformError, match="was lost"):
        first.release()
    assert bucket.content() == {"owner": "another"}


def test_a_write_whose_answer_got_lost_is_ours(bucket: Bucket) -> None:
    first = new(bucket)
    bucket.silent = True
    assert first.take()
    bucket.silent = True
    until(lambda: not bucket.silent)
    renewed = bucket.content()["renewals"]
    until(lambda: bucket.content()["renewals"] > renewed)
    bucket.silent = True
    first.release()
    assert bucket.content()["free"]


def test_of_many_at_once_one_holds_it(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_bucket", lambda root: bucket)
    inside, most, done = [0], [0], []

    def work() -> None:
        with Store("s3://b").lock("promotion"):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.01)
            inside[0] -= 1
        done.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(done), most[0]) == (4, 1)


def test_the_lock_is_freed_after_an_error_and_a_lost_one_is_one(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_bucket", lambda root: bucket)
    monkeypatch.setattr(lease, "LEASE", SECONDS)
    with pytest.raises(ValueError, match="mine"), Store("s3://b").lock("promotion"):
        raise ValueError("mine")
    assert bucket.content()["free"]
    with pytest.raises(PlatformError, match="was lost"), Store("s3://b").lock("promotion") as lock:  # noqa: PT012
        bucket.away = True
        until(lambda: _is_lost(lock))
    bucket.away = False
    with (
        pytest.raises(PlatformError, match="Another process has held the lock s3://b/locks/promotion for 0 s"),
        Store("s3://b").lock("promotion"),
        Store("s3://b").lock("promotion", patience=0.1),
    ):
        pass


class Answering(http.server.BaseHTTPRequestHandler):
    """As much of S3 as one write needs."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    """An S3 that nobody serves yet; it comes after these seconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE", raising=False)
    servers: list[http.server.HTTPServer] = []

    def serve() -> None:
        servers.append(http.server.HTTPServer(("127.0.0.1", port), Answering))
        servers[0].serve_forever(poll_interval=0.05)

    seconds = 4.0
    timer = threading.Timer(seconds, serve)
    timer.start()
    store._bucket.cache_clear()
    yield seconds
    store._bucket.cache_clear()
    timer.cancel()
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_store_that_is_away_for_seconds_is_waited_for(late: float) -> None:
    begun = time.monotonic()
    assert Store("s3://bucket/prefix").write("a", b"content") == "s3://bucket/prefix/a"
    assert time.monotonic() - begun >= late - 0.5
