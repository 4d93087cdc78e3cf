"""`python -m bench.soak [--minutes 30]`: check memory and ids of the service under load with champion swaps.

The platform must be running, and the project needs two versions. Clients send requests without pause, and every
SWAP_SECONDS a rollback exchanges the champion and the previous version. The memory of every process is sampled. The
slope is estimated with an interval on the second half, because caches grow in the first half. If the memory of a
program rises, the soak test runs for the same time again: a leak continues to rise, while memory that the allocator
retains does not. The exit status is 1 if an id of a response is not in the log exactly once, a prediction failed, or
the memory of a program grows.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import httpx
import psutil

from bench.load import Load, logged, lost, shipped
from cli.local import processes, report, supervisor
from phaseflow import discovery
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT, Settings, from_environment

SAMPLE_SECONDS: Final = 5.0
SWAP_SECONDS: Final = 20.0
PROGRESS_SECONDS: Final = 30.0
SHIP_SECONDS: Final = 120.0
ALLOWED_MIB_PER_HOUR: Final = 40.0
"""Growth that counts as flat.

The test fails if the interval is above this and the total growth is above ALLOWED_SHARE.
"""
ALLOWED_SHARE: Final = 0.05
"""Growth as a share of the memory at the start of the second half."""
STUDENT: Final = 2.0
"""Half width of the interval in standard errors."""
BLOCK: Final = 6
"""Number of samples per block mean.

Neighbouring samples are correlated, so a fit of single samples would have too narrow an interval.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Memory growth of one program."""

    program: str
    first_mib: float
    last_mib: float
    mib_per_hour: float
    half_width: float
    """Half the width of the slope's interval, about 95 %, in MiB per hour."""

    @property
    def grows(self) -> bool:
        """Whether the growth is significant and above the limits."""
        lower = self.mib_per_hour - self.half_width
        return lower > ALLOWED_MIB_PER_HOUR and self.last_mib > self.first_mib * (1 + ALLOWED_SHARE)


def slope(program: str, samples: Sequence[tuple[float, float]]) -> Slope:
    """Fit a line to block means of the second half of `(seconds, MiB)`.

    The interval is infinite for fewer than three blocks.
    """
    half = samples[len(samples) // 2 :]
    blocks = [half[at : at + BLOCK] for at in range(0, len(half), BLOCK)]
    points = [
        (statistics.fmean(t for t, _ in block), statistics.fmean(m for _, m in block)) for block in blocks if block
    ]
    first, last = points[0][1], points[-1][1]
    if len(points) < 3:
        return Slope(program=program, first_mib=first, last_mib=last, mib_per_hour=0.0, half_width=math.inf)
    times, values = [t / 3600 for t, _ in points], [m for _, m in points]
    rate, offset = statistics.linear_regression(times, values)
    spread = sum((t - statistics.fmean(times)) ** 2 for t in times)
    residual = sum((m - rate * t - offset) ** 2 for t, m in zip(times, values, strict=True)) / (len(points) - 2)
    width = STUDENT * math.sqrt(residual / spread)
    return Slope(program=program, first_mib=first, last_mib=last, mib_per_hour=rate, half_width=width)


def slopes(samples: Mapping[str, Sequence[tuple[float, float]]]) -> list[Slope]:
    """The slope of each program with at least two samples, sorted by name."""
    return [slope(name, values) for name, values in sorted(samples.items()) if len(values) >= 2]


def memory(settings: Settings) -> dict[str, float]:
    """Total memory of each program's processes in MiB, by program name."""
    sizes: dict[str, float] = defaultdict(float)
    for process in supervisor.members(settings):
        try:
            sizes[process.environ()[processes.MARK]] += report.memory([process]) / report.MIB
        except (psutil.Error, KeyError):
            continue  # the process has exited
    return dict(sizes)


def swap(settings: Settings, project: str) -> subprocess.Popen[bytes]:
    """Start a rollback, which exchanges the champion and the previous version."""
    command = [str(settings.python("registry")), "-m", "services.registry", "rollback", "--project", project]
    environment = os.environ | supervisor.environment(settings)
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


@dataclass(slots=True)
class Swaps:
    """Rollbacks in the background, at most one at a time."""

    settings: Settings
    project: str
    completed: int = 0
    failed: int = 0
    next_at: float = SWAP_SECONDS
    process: subprocess.Popen[bytes] | None = None

    def step(self, elapsed: float) -> None:
        """Count a rollback that has ended, and start the next one if it is due."""
        if self.process is not None and self.process.poll() is not None:
            self._count(self.process)
        if self.process is None and elapsed >= self.next_at:
            self.process, self.next_at = swap(self.settings, self.project), elapsed + SWAP_SECONDS

    def end(self) -> None:
        """Wait for the last rollback."""
        if self.process is not None:
            self.process.wait()
            self._count(self.process)

    def _count(self, process: subprocess.Popen[bytes]) -> None:
        self.completed += 1
        self.failed += process.returncode != 0
        self.process = None


def check_versions(settings: Settings, project: str) -> None:
    """Raise PlatformError if the project has no previous champion: nothing could be swapped."""
    url = f"{settings.mlflow_url}/api/2.0/mlflow/registered-models/alias"
    try:
        response = httpx.get(url, params={"name": project, "alias": "previous"}, timeout=30, trust_env=False)
    except httpx.HTTPError as error:
        raise PlatformError(
            f"MLflow at {settings.mlflow_url} can't be reached: {error}", fix="See `phaseflow status`"
        ) from error
    if response.status_code != 200:
        raise PlatformError(
            f"{project} has no two versions to swap", fix="Run `make demo` until it ends without an error"
        )


def soak(settings: Settings, project: str, minutes: float, clients: int) -> int:
    """Run the soak test and return its exit status. Raises the errors of `check_versions`."""
    check_versions(settings, project)
    load = Load(f"{settings.serving(project)}/{project}", dict(discovery.get(project).example), clients=clients)
    swaps = Swaps(settings, project)
    begin = time.monotonic()
    with load:
        samples = _drive(settings, load, swaps, minutes)
    swaps.end()
    _wait_for_spool(settings)
    missing = lost(load.ids, logged(settings, dict(os.environ), project))
    programs = slopes(samples)
    for line in lines(programs):
        print(line)
    minutes = (time.monotonic() - begin) / 60
    print(
        f"{load.sent} requests in {minutes:.1f} min, {load.failed} failed, slowest {load.slowest:.2f} s; "
        f"{len(load.ids)} ids, {len(missing)} missing or twice; {swaps.completed} swaps, {swaps.failed} failed; "
        f"versions served: {', '.join(sorted(load.versions))}"
    )
    problems = _problems(load, swaps, missing, programs)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _drive(settings: Settings, load: Load, swaps: Swaps, minutes: float) -> dict[str, list[tuple[float, float]]]:
    """Swap and sample for `minutes`, and once more for as long if a program's memory rises.

    Returns the samples `(seconds, MiB)` by program.
    """
    samples: dict[str, list[tuple[float, float]]] = defaultdict(list)
    begin, end, next_line = time.monotonic(), minutes * 60, 0.0
    while True:
        elapsed = time.monotonic() - begin
        if elapsed >= end:
            rising = [slope.program for slope in slopes(samples) if slope.grows]
            if not rising or end > minutes * 60:
                return samples
            end *= 2
            print(f"the memory of {', '.join(rising)} rises: the run is extended to {end / 60:g} min", flush=True)
        for name, mib in memory(settings).items():
            samples[name].append((elapsed, mib))
        swaps.step(elapsed)
        if elapsed >= next_line:
            serving = samples["serving"][-1][1] if samples["serving"] else 0.0
            print(
                f"{elapsed / 60:5.1f} of {end / 60:g} min: {load.sent} requests, {load.failed} failed, "
                f"{swaps.completed} swaps, serving {serving:.0f} MiB",
                flush=True,
            )
            next_line = elapsed + PROGRESS_SECONDS
        time.sleep(SAMPLE_SECONDS)  # sampling interval


def _wait_for_spool(settings: Settings) -> None:
    """Wait until every row of the spool is in the log; raises PlatformError after SHIP_SECONDS."""
    deadline = time.monotonic() + SHIP_SECONDS
    while not shipped(settings):
        if time.monotonic() > deadline:
            raise PlatformError(
                f"The spool still has rows after {SHIP_SECONDS:.0f} s", fix="Read `phaseflow logs serving`"
            )
        time.sleep(1)  # polling interval


def _problems(load: Load, swaps: Swaps, missing: Sequence[str], programs: Sequence[Slope]) -> list[str]:
    """What makes the soak test fail, a sentence each."""
    growing = [slope.program for slope in programs if slope.grows]
    checks = {
        f"{len(missing)} ids are not in the log exactly once: {'; '.join(missing[:5])}": missing,
        f"{load.failed} predictions failed: {dict(load.statuses)}, {load.broken} broken": load.failed,
        f"{swaps.failed} swaps failed": swaps.failed,
        f"the memory of {', '.join(growing)} grows": growing,
    }
    return [problem for problem, wrong in checks.items() if wrong]


def lines(programs: Sequence[Slope]) -> list[str]:
    """The lines of the memory table."""
    rows = [("program", "first MiB", "last MiB", "MiB an hour", "interval", "")]
    for slope in programs:
        interval = "too short" if math.isinf(slope.half_width) else f"± {slope.half_width:.1f}"
        rows.append(
            (
                *(
                    slope.program,
                    f"{slope.first_mib:.1f}",
                    f"{slope.last_mib:.1f}",
                    f"{slope.mib_per_hour:+.1f}",
                    interval,
                ),
                "grows" if slope.grows else "flat",
            )
        )
    return [f"{a:<24}{b:>10}{c:>10}{d:>13}{e:>12}  {f}" for a, b, c, d, e, f in rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 for success, 1 for lost ids, failures or growing memory, 2 if the platform is not running."""
    parser = argparse.ArgumentParser(
        prog="bench.soak", description="Load a running platform while its champion is swapped."
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--project", default="titanic")
    parser.add_argument("--clients", type=int, default=4)
    args = parser.parse_args(arguments)
    settings = from_environment()
    if not supervisor.running(settings):
        print(
            "error: The platform is not running. Start it with `make demo`, which creates two versions of titanic.",
            file=sys.stderr,
        )
        return 2
    try:
        return soak(settings, args.project, args.minutes, args.clients)
    except PlatformError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
