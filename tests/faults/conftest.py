"""Helpers of the fault tests: traffic with recorded ids, full disks, and the state of programs."""

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
from cli.local import supervisor
from phaseflow import discovery
from phaseflow.testing import wait_for
from tests.conftest import Platform
from tests.tally import Row, Tally

PROJECT = "titanic"
Traffic = Callable[..., contextlib.AbstractContextManager[Load]]


def wait_for_predictions(load: Load, number: int = 20) -> None:
    """Wait until `number` more predictions have succeeded."""
    baseline = load.statuses[200]
    wait_for("predictions", lambda: load.statuses[200] >= baseline + number, 60)


@pytest.fixture
def traffic(platform: Platform, tally: Tally) -> Traffic:
    """Requests during a fault; afterwards, the log must contain the id of each served prediction exactly once."""

    @contextlib.contextmanager
    def traffic(what: str, *, may_fail: bool = False) -> Iterator[Load]:
        load = Load(f"{platform.settings.serving(PROJECT)}/{PROJECT}", dict(discovery.get(PROJECT).example), pause=0.02)
        with load:
            wait_for_predictions(load)
            yield load
            wait_for_predictions(load)
        wait_for("the log's way to the store", lambda: shipped(platform.settings), 90)
        lost_ids = lost(load.ids, logged(platform.settings, platform.environment, PROJECT))
        if not may_fail and load.failed:
            lost_ids.append(f"{load.failed} predictions failed: {dict(load.statuses)}, {load.broken} broken")
        note = f"{load.failed} failed, slowest {load.slowest:.1f} s"
        tally.add(Row(what=f"answered ids, {what}", attempts=len(load.ids), lost=lost_ids, note=note))

    return traffic


def pid_of(platform: Platform, name: str) -> int:
    """Return the pid of a program, or 0 if it is not running."""
    return int(supervisor.states(platform.settings).get(name, {}).get("pid", 0))


def healthy(platform: Platform, name: str) -> bool:
    """Return whether a program is healthy."""
    program = platform.programs().get(name)
    return bool(program and program["healthy"])


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Put the folder on a full disk; its content is back afterwards.

    Root (in the namespace of `tests/isolated`) mounts a small, full file system over the folder, which affects every
    process of the platform. For another user the folder becomes read-only, so that writes fail as well.
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
    """Return the sum of a metric's series on a component."""
    address = getattr(platform.settings, f"{part}_url")
    lines = httpx.get(f"{address}/metrics", timeout=10).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


class Stopwatch:
    """Seconds since its creation."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def __str__(self) -> str:
        return f"{time.monotonic() - self._begin:.1f} s"


def valid_row(platform: Platform) -> dict[str, Any]:
    """Return a valid row for the service."""
    return dict(discovery.get(PROJECT).example)
