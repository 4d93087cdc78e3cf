"""Compare the ETL of a retraining with a month of history and with one hour, and measure the compaction of one hour.

Usage: .venvs/tabular/bin/python -m bench.history [--hours 720] [--rounds 5] [--folder FOLDER]. It writes
bench/history.json and the table of bench/README.md. A month takes about half an hour and about 8 GB of disk, which are
freed at the end.

The log has the rows of titanic at 50 rows/s, each with a label one minute later. Both stores have an open hour of small
files, 1,800 of each kind, as the service ships them, and a snapshot from the beginning of that hour. Before it, one
store has one compacted hour and the other has a month of them. Each figure covers child processes, as Airflow starts
them: their total seconds and their largest peak memory.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from bench.history_table import BUDGETS, RESULTS, write_table
from phaseflow import discovery, logs
from phaseflow.settings import ROOT
from phaseflow.store import Store
from phaseflow.toolkit import source

PROJECT: Final = "titanic"
ROWS: Final = 50
"""Rows per second."""
SHIP: Final = 2
"""Seconds between two shipped files."""
HOUR: Final = 3600
DISK: Final = 15 << 20
"""Upper bound on the bytes of a compacted hour."""
SNAPSHOT: Final = """
import json, sys
from datetime import datetime
from phaseflow import discovery
from phaseflow.settings import from_environment
from phaseflow.store import Store
from pipelines.etl.snapshot import snapshot
store = Store(from_environment().store)
result = snapshot(discovery.get("titanic"), "bench", store, {"source": "sample"}, datetime.fromisoformat(sys.argv[1]))
print(json.dumps(result))
"""
"""The snapshot step with the current time as an argument."""


def hour_of_rows(begin: datetime, number: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The predictions of one hour and their labels, sorted by time.

    `number` seeds their ids, so that no two hours share one.
    """
    project = discovery.get(PROJECT)
    count = ROWS * HOUR
    rng = random.Random(number)  # noqa: S311  # ids of a benchmark
    rows = source.read_csv(discovery.load(project.source.sample)(1))
    typed = source.conform(source.transformed(rows, project), project.schema)
    drawn = typed.sample(count, with_replacement=True, seed=number)
    first = int(begin.timestamp() * 1_000_000)
    times = [first + 1_000_000 * index // ROWS for index in range(count)]
    ids = [f"{logs.new_id(moment, rng.randbytes(16))}-0" for moment in times]
    target = project.schema.target
    assert target is not None  # noqa: S101  # titanic has one
    time_column = pl.Series("time", times).cast(logs.TIME)
    predictions = drawn.select(
        pl.Series("id", ids),
        time_column,
        pl.lit("1").alias("version"),
        *project.schema.feature_names,
        pl.col(target.name).alias("prediction"),
        pl.Series("score", [0.5 + 0.5 * rng.random() for _ in range(count)]).round(3),
        pl.lit(1.25).alias("latency_ms"),
    )
    labels = pl.DataFrame(
        {"id": ids, "time": (time_column + timedelta(minutes=1)), "label": drawn[target.name], "client": [""] * count}
    )
    return predictions, labels


def month(store: Store, hours: list[datetime]) -> int:
    """Write compacted hours and return their bytes.

    Each hour has its own ids and times, and the values of the first hour.
    """
    begin = time.monotonic()
    first, size = hours[0], 0
    frames = dict(zip(logs.KINDS, hour_of_rows(first, 0), strict=True))
    rest = frames["predictions"]["id"].str.slice(12)
    for number, hour in enumerate(hours):
        moved = hour - first
        milliseconds = int(moved.total_seconds() * 1000)
        moments = (frames["predictions"]["time"].dt.epoch("ms") + milliseconds).to_list()
        mark = f"{number:06x}"  # replaces random digits, so that no two hours share an id
        ids = pl.Series("id", [f"{moment:012x}{mark}{tail[6:]}" for moment, tail in zip(moments, rest, strict=True)])
        for kind, frame in frames.items():
            shifted = frame.with_columns(ids, pl.col("time") + moved)
            # Labels of the last minute are in the hour of their prediction, like a late file, not in the next hour.
            name, content = logs.written(shifted, [f"{number}-{part}.parquet" for part in range(HOUR // SHIP)])
            store.write(f"{logs.folder(kind, PROJECT, hour)}/{name}", content)
            size += len(content)
        if number % 24 == 23:
            say(f"{number + 1} of {len(hours)} hours, {size / 1e9:.1f} GB, {time.monotonic() - begin:.0f} s")
    return size


def small_files(store: Store, hour: datetime, number: int) -> None:
    """Write one hour as the small files that the service ships."""
    for kind, frame in zip(logs.KINDS, hour_of_rows(hour, number), strict=True):
        for part, rows in enumerate(frame.iter_slices(ROWS * SHIP)):
            content = io.BytesIO()
            rows.write_parquet(content)
            store.write(f"{logs.folder(kind, PROJECT, hour)}/{number:04d}-{part:06d}.parquet", content.getvalue())


def child(home: Path, *arguments: str) -> tuple[float, float]:
    """Run this environment's interpreter with `arguments`. Returns its seconds and its peak memory in MiB."""
    environment = os.environ | {
        "PHASEFLOW_HOME": str(home),
        "PHASEFLOW_STORE": str(home / "store"),
        "PHASEFLOW_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("PHASEFLOW_DATA_MIRROR", None)
    with tempfile.TemporaryFile() as output:
        begin = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{arguments[:3]} ended with {process.returncode}: {output.read().decode()[-2000:]}")
    return seconds, usage.ru_maxrss / 1024


def step(home: Path, name: str) -> tuple[float, float]:
    """Run an ETL step before the snapshot."""
    result = str(home / "result.json")
    return child(home, "-m", "pipelines.etl", name, "--project", PROJECT, "--run", "bench", "--result", result)


def etl(home: Path, now: datetime) -> tuple[float, float]:
    """Run the three ETL steps of a retraining. Returns their total seconds and their largest peak in MiB."""
    parts = [step(home, "extract"), step(home, "validate"), child(home, "-c", SNAPSHOT, now.isoformat())]
    return sum(seconds for seconds, _ in parts), max(peak for _, peak in parts)


def retraining(home: Path, now: datetime) -> tuple[float, float]:
    """Run `etl`, then remove the snapshots that it wrote."""
    datasets = home / "store" / "datasets" / PROJECT
    before = {path for path in datasets.rglob("*") if path.is_file()}
    cost = etl(home, now)
    for path in datasets.rglob("*"):
        if path.is_file() and path not in before:
            path.unlink()
    return cost


def compaction(home: Path, hour: datetime) -> tuple[float, float]:
    """Write one hour of small files and compact it."""
    shutil.rmtree(home / "store", ignore_errors=True)
    small_files(Store(str(home / "store")), hour, 1)
    return child(home, "-m", "pipelines.etl.compact")


def medians(measure: Callable[[], tuple[float, float]], rounds: int, name: str) -> dict[str, float]:
    """The medians of the seconds and of the peaks over `rounds` measurements."""
    costs = []
    for number in range(rounds):
        costs.append(measure())
        say(f"{name}, {number + 1} of {rounds}: {costs[-1][0]:.2f} s, {costs[-1][1]:.0f} MiB")
    return {
        "seconds": round(statistics.median(seconds for seconds, _ in costs), 2),
        "mib": round(statistics.median(peak for _, peak in costs), 1),
    }


def say(text: str) -> None:
    """Print progress with the current time."""
    print(f"{datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)  # noqa: DTZ005  # local time, for the reader


def measure(folder: Path, hours: int, rounds: int) -> dict[str, Any]:
    """Measure all figures."""
    need = hours * DISK
    if shutil.disk_usage(folder).free < need:
        raise SystemExit(f"{folder} has less than {need / 1e9:.0f} GB free. Choose another --folder, or fewer --hours.")
    open_hour = logs.floor(datetime.now(UTC)) - timedelta(days=1)
    homes = {"one hour": folder / "hour", "history": folder / "month"}
    counts = {"one hour": 1, "history": hours}
    size, full_read = 0, (0.0, 0.0)
    for name, home in homes.items():
        home.mkdir()
        store = Store(str(home / "store"))
        size = month(store, [open_hour - number * timedelta(hours=1) for number in range(counts[name], 0, -1)])
        full_read = etl(home, open_hour + timedelta(minutes=1))
        say(f"{name}: a full read of the feedback takes {full_read[0]:.1f} s and {full_read[1]:.0f} MiB")
        small_files(store, open_hour, 9999)
    now = open_hour + timedelta(minutes=61)
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in homes}
    for number in range(rounds):
        for name, home in homes.items():
            costs[name].append(retraining(home, now))
            say(f"{name}, {number + 1} of {rounds}: {costs[name][-1][0]:.2f} s, {costs[name][-1][1]:.0f} MiB")
    figures = {
        name: {
            "seconds": round(statistics.median(seconds for seconds, _ in pairs), 2),
            "mib": round(statistics.median(peak for _, peak in pairs), 1),
        }
        for name, pairs in costs.items()
    }
    third = folder / "compaction"
    third.mkdir()
    return {
        "hours": hours,
        "rows": hours * HOUR * ROWS,
        "gigabytes": round(size / 1e9, 2),
        "rounds": rounds,
        "one_hour": figures["one hour"],
        "history": figures["history"],
        "time_ratio": round(figures["history"]["seconds"] / figures["one hour"]["seconds"], 3),
        "memory_ratio": round(figures["history"]["mib"] / figures["one hour"]["mib"], 3),
        "whole": {"seconds": round(full_read[0], 1), "mib": round(full_read[1], 1)},
        "compaction": medians(lambda: compaction(third, open_hour), rounds, "compaction"),
        "cores": os.cpu_count(),
    }


def main() -> int:
    """Measure, then write the figures and the table. Returns 1 if a figure exceeds its budget."""
    parser = argparse.ArgumentParser(prog="bench.history")
    parser.add_argument("--hours", type=int, default=720)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="phaseflow-history-", dir=args.folder) as folder:
        figures = measure(Path(folder), args.hours, args.rounds)
    args.results.write_text(json.dumps(figures, indent=1) + "\n")
    if args.results == RESULTS:
        write_table()
    print(json.dumps(figures, indent=1))
    flat = {
        "time_ratio": figures["time_ratio"],
        "memory_ratio": figures["memory_ratio"],
        "compaction seconds": figures["compaction"]["seconds"],
        "compaction mib": figures["compaction"]["mib"],
    }
    exceeded = [f"{name} is {flat[name]}, above {budget}" for name, budget in BUDGETS.items() if flat[name] > budget]
    for line in exceeded:
        print(line, file=sys.stderr)
    return int(bool(exceeded))


if __name__ == "__main__":
    sys.exit(main())
