"""What faults need: traffic whose ids are counted, disks that are full, programs that are killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.load import Load, logged, lost, shipped
from phaseflow import registry
from phaseflow.embedded import supervisor
from tests.conftest import Platform
from tests.tally import Row, Tally
from tests.test_loop import wait_for

PROJECT = "titanic"
Traffic = Callable[..., contextlib.AbstractContextManager[Load]]


def started(load: Load, number: int = 20) -> None:
    """Wait for so many more requests to be answered."""
    seen = load.statuses[200]
    wait_for("predictions", lambda: load.statuses[200] >= seen + number, 60)


@pytest.fixture
def traffic(platform: Platform, tally: Tally) -> Traffic:
    """Requests while a fault lasts; after it every answered id is in the log exactly once, or the test fails."""

    @contextlib.contextmanager
    def traffic(what: str, *, may_fail: bool = False) -> Iterator[Load]:
        load = Load(f"{platform.settings.serving(PROJECT)}/{PROJECT}", dict(registry.get(PROJECT).example), pause=0.02)
        with load:
            started(load)
            yield load
            started(load)
        wait_for("the log's way to the store", lambda: shipped(platform.settings), 90)
        missing = lost(load.ids, logged(platform.settings, platform.environment, PROJECT))
        if not may_fail and load.failed:
            missing.append(f"{load.failed} predictions failed: {dict(load.statuses)}, {load.broken} broken")
        note = f"{load.failed} failed, slowest {load.slowest:.1f} s"
        tally.add(Row(what=f"answered ids, {what}", tried=len(load.ids), lost=missing, note=note))

    return traffic


def pid_of(platform: Platform, name: str) -> int:
    """The program's process; 0 while it has none."""
    return int(supervisor.states(platform.settings).get(name, {}).get("pid", 0))


def healthy(platform: Platform, name: str) -> bool:
    """Whether the program answers well."""
    program = platform.programs().get(name)
    return bool(program and program["healthy"])


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """The folder is on a disk that is full; what it held is there again afterwards.

    Root (of the namespace that `tests/isolated` makes) mounts a small file system over it, which every process of the platform sees
    that opens a path below. For another user the folder becomes read-only: its writers fail as well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k,mode=0700", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0
    if mounted:
        subprocess.run(mount, check=True)
        with contextlib.suppress(OSError), (folder / "fill").open("wb", buffering=0) as file:
            while file.write(b"\0" * 4096):
                pass
    else:
        folder.chmod(0o500)
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        else:
            folder.chmod(0o700)


def metric(platform: Platform, part: str, name: str) -> float:
    """The sum of a metric's series of a part."""
    address = getattr(platform.settings, f"{part}_url")
    lines = httpx.get(f"{address}/metrics", timeout=10).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def __str__(self) -> str:
        return f"{time.monotonic() - self._begin:.1f} s"


def bodies(platform: Platform) -> dict[str, Any]:
    """A right row for the service."""
    return dict(registry.get(PROJECT).example)
