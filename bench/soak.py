"""`python -m bench.soak [--minutes 30]`: the service under load while its champion is swapped; does memory grow, is an id missing?

The platform is up and the project has two versions. Clients ask without pause; every SWAP_SECONDS the champion is rolled back, and so
forth and back again. Memory of every process is sampled; the slope of the second half has an interval, since the first half holds the
growth of caches. If a program's memory rises, the soak goes on for as long again: a leak goes on rising, what the allocator keeps does not.
Ends with 1 where an answered id is not in the log exactly once, a prediction failed, or the memory of a program grows.
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

import psutil

from bench.load import Load, logged, lost, shipped
from phaseflow import registry
from phaseflow.embedded import processes, report, supervisor
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT, Settings, from_environment

SAMPLE_SECONDS: Final = 5.0
SWAP_SECONDS: Final = 20.0
PROGRESS_SECONDS: Final = 30.0
SHIP_SECONDS: Final = 120.0
ALLOWED_MIB_PER_HOUR: Final = 40.0
"""Growth that counts as flat: its interval must lie above this, and the whole growth above ALLOWED_SHARE, to fail."""
ALLOWED_SHARE: Final = 0.05
"""A share of the memory at the start of the measured half."""
STUDENT: Final = 2.0
"""Half width of the interval in standard errors."""
BLOCK: Final = 6
"""Samples that are averaged: neighbours are not independent, and a slope of single ones would look too certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Growth of one program's memory."""

    program: str
    first_mib: float
    last_mib: float
    mib_per_hour: float
    half_width: float
    """Half the width of the slope's interval, about 95 %, in MiB per hour."""

    @property
    def grows(self) -> bool:
        """Whether it is more than noise and more than what is allowed."""
        lower = self.mib_per_hour - self.half_width
        return lower > ALLOWED_MIB_PER_HOUR and self.last_mib > self.first_mib * (1 + ALLOWED_SHARE)


def slope(program: str, samples: Sequence[tuple[float, float]]) -> Slope:
    """Least squares over block means of `(seconds, MiB)` of the second half; the interval is infinite for fewer than three blocks."""
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
    """The slope of each program that was sampled twice at least, by name."""
    return [slope(name, values) for name, values in sorted(samples.items()) if len(values) >= 2]


def memory(settings: Settings) -> dict[str, float]:
    """MiB of each program's processes together, by its name."""
    sizes: dict[str, float] = defaultdict(float)
    for process in supervisor.members(settings):
        try:
            sizes[process.environ()[processes.MARK]] += report.memory([process]) / report.MIB
        except (psutil.Error, KeyError):
            continue  # ended meanwhile
    return dict(sizes)


def swap(settings: Settings, project: str) -> subprocess.Popen[bytes]:
    """Begin a rollback, which exchanges champion and previous."""
    command = [str(settings.python("registry")), "-m", "services.registry", "rollback", "--project", project]
    environment = os.environ | supervisor.environment(settings)
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def soak(settings: Settings, project: str, minutes: float, clients: int) -> int:
    """Do it; gives the exit status."""
    samples: dict[str, list[tuple[float, float]]] = defaultdict(list)
    swaps = failures = 0
    load = Load(f"{settings.serving(project)}/{project}", dict(registry.get(project).example), clients=clients)
    begin, end = time.monotonic(), minutes * 60
    next_swap, next_line = SWAP_SECONDS, 0.0
    swapping: subprocess.Popen[bytes] | None = None
    with load:
        while True:
            passed = time.monotonic() - begin
            if passed >= end:
                rising = [slope.program for slope in slopes(samples) if slope.grows]
                if not rising or end > minutes * 60:
                    break
                end *= 2
                print(
                    f"the memory rises of {', '.join(rising)}: {end / 60:g} min in all, to see whether it goes on",
                    flush=True,
                )
            for name, mib in memory(settings).items():
                samples[name].append((passed, mib))
            if swapping is not None and swapping.poll() is not None:
                swaps, failures, swapping = swaps + 1, failures + (swapping.returncode != 0), None
            if swapping is None and passed >= next_swap:
                swapping, next_swap = swap(settings, project), passed + SWAP_SECONDS
            if passed >= next_line:
                serving = samples["serving"][-1][1] if samples["serving"] else 0.0
                print(
                    f"{passed / 60:5.1f} of {end / 60:g} min: {load.sent} requests, {load.failed} failed, {swaps} swaps, "
                    f"serving {serving:.0f} MiB",
                    flush=True,
                )
                next_line = passed + PROGRESS_SECONDS
            time.sleep(SAMPLE_SECONDS)  # the interval of sampling
    if swapping is not None:
        swapping.wait()
    deadline = time.monotonic() + SHIP_SECONDS
    while not shipped(settings):
        if time.monotonic() > deadline:
            raise PlatformError(
                f"Rows wait in the spool after {SHIP_SECONDS:.0f} s", fix="Read `phaseflow logs serving`"
            )
        time.sleep(1)  # the interval of polling
    missing = lost(load.ids, logged(settings, dict(os.environ), project))
    last = slopes(samples)
    for line in lines(last):
        print(line)
    seconds = time.monotonic() - begin
    print(
        f"{load.sent} requests in {seconds / 60:.1f} min, {load.failed} failed, slowest {load.slowest:.2f} s; {len(load.ids)} ids, "
        f"{len(missing)} missing or twice; {swaps} swaps, {failures} failed; versions served: {', '.join(sorted(load.versions))}"
    )
    growing = [slope.program for slope in last if slope.grows]
    problems = [f"{len(missing)} ids are not in the log exactly once: {'; '.join(missing[:5])}"] if missing else []
    problems += (
        [f"{load.failed} predictions failed: {dict(load.statuses)}, {load.broken} broken"] if load.failed else []
    )
    problems += [f"{failures} swaps failed"] if failures else []
    problems += [f"the memory grows of {', '.join(growing)}"] if growing else []
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def lines(programs: Sequence[Slope]) -> list[str]:
    """The table of memory."""
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
    """The exit status: 0, or 1 where something was lost or grows, 2 where the platform is not up."""
    parser = argparse.ArgumentParser(prog="bench.soak", description="Load, swaps and memory of a platform that is up.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--project", default="titanic")
    parser.add_argument("--clients", type=int, default=4)
    chosen = parser.parse_args(arguments)
    settings = from_environment()
    if not supervisor.running(settings):
        print(
            "error: the platform is not up. Start it by `make demo`, which makes two versions of titanic.",
            file=sys.stderr,
        )
        return 2
    try:
        return soak(settings, chosen.project, chosen.minutes, chosen.clients)
    except PlatformError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
