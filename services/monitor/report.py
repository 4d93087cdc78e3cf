"""`python -m services.monitor.report --project P --snapshot H` runs Evidently on the latest window and prints the result as JSON.

It runs in its own process: importing Evidently takes five seconds and 300 MiB, which must not burden the hook, and a report that fails
or takes too long can be killed without harm.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl

from phaseflow import discovery, erasure, errors, log, logs, prediction_types
from phaseflow.contract import Project
from phaseflow.errors import DataError, PhaseflowError
from phaseflow.reference import PREDICTION
from phaseflow.reports import page_key, run_key, run_page
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit.newest import newest_traffic
from phaseflow.toolkit.scalars import label_descriptors, prediction_vocabulary, scalars, vocabularies
from services.monitor import evaluation
from services.monitor.evaluation import MIN_ROWS, TARGET, Labels, Window

MAX_ROWS: Final = 5000
MAX_REPORTS: Final = 50
PAGES: Final = {"drift": "report"}
"""File names of the pages that differ from the name of the run."""


def window_of(store: Store, project: Project, snapshot: str, seconds: int) -> Window:
    """Samples of the window's rows and of the reference rows, at most MAX_ROWS each, with `target` if labels are known."""
    until = datetime.now(UTC)
    since = until - timedelta(seconds=seconds)
    current = logs.sample(store, "predictions", project.name, since, until, MAX_ROWS, project.seed)
    current = erasure.erasures(store, project.name).without(current)
    if current.is_empty():
        return Window(current=current, reference=current, labelled=current)
    labels = logs.labels_of(store, project.name, current["id"], since, until)
    labelled = current.select("id", PREDICTION).join(labels.select("id", pl.col("label").alias(TARGET)), on="id")
    if not labels.is_empty():
        current = current.join(labels.select("id", pl.col("label").alias(TARGET)), on="id", how="left")
    train = pl.read_parquet(store.read(f"datasets/{project.name}/{snapshot}/train.parquet"))
    reference = newest_traffic(project, train)
    if project.schema.target is not None:
        reference = reference.rename({project.schema.target.name: TARGET})
    vocabulary = vocabularies(project.schema, reference, train)
    if prediction_types.is_structured(project.schema.target):
        vocabulary |= prediction_vocabulary(project.schema.target, reference[TARGET].to_list())
    target = project.schema.target
    current, reference = (
        label_descriptors(target, scalars(project.schema, _bounded(rows, project.seed), vocabulary), TARGET, vocabulary)
        for rows in (current, reference)
    )
    return Window(current=current, reference=reference, labelled=labelled.select(PREDICTION, TARGET).drop_nulls())


def _bounded(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    return rows.sample(MAX_ROWS, seed=seed) if rows.height > MAX_ROWS else rows


def make(project: Project, snapshot: str) -> dict[str, Any]:
    """Compare the latest window with the reference, store the report, and return its summary."""
    settings = from_environment()
    store = Store(settings.store)
    seconds = settings.drift_window_seconds or project.drift.window_seconds
    current_snapshot = erasure.current(store, project.name, snapshot)
    window = window_of(store, project, current_snapshot, seconds)
    now = datetime.now(UTC)
    if window.current.height < MIN_ROWS:
        return {
            "rows": 0,
            "reason": f"{window.current.height} requests in the last {seconds} s; a report needs {MIN_ROWS}",
        }
    manifest = json.loads(store.read(f"datasets/{project.name}/{current_snapshot}/manifest.json"))
    name = f"{now:%Y%m%dT%H%M%SZ}"
    labels = Labels(
        window=name,
        time=now.replace(tzinfo=None),
        metadata={"project": project.name, "snapshot": snapshot, "seconds": str(seconds)},
        source=str(manifest.get("source")),
    )
    runs = evaluation.evaluate(project, window, labels)
    drift = evaluation.scores(runs[0])
    folder = f"reports/{project.name}/{name}"
    summary = {
        "project": project.name,
        "window": name,
        "seconds": seconds,
        "rows": window.current.height,
        "reference_rows": window.reference.height,
        "labelled_rows": window.labelled.height,
        "snapshot": snapshot,
        "scores": drift,
        "drifted": sorted(feature for feature, score in drift.items() if score > project.drift.psi),
        "threshold": project.drift.psi,
        "tests": dict(sum((run.counts() for run in runs), Counter())),
        "failed_tests": [test for run in runs for test in run.failed()],
        "time": now.timestamp(),
        "report": f"{settings.page('monitor')}/reports/{project.name}/{name}/report.html",
        "runs": {run.name: run_page(settings, project.name, name, run.name) for run in runs},
    }
    for run in runs:
        store.write(page_key(project.name, name, PAGES.get(run.name, run.name)), gzip.compress(run.page))
        store.write(run_key(project.name, name, run.name), gzip.compress(run.content))
    store.write(f"{folder}/report.json", json.dumps(summary, indent=1).encode())  # last: it says that the rest is there
    windows = sorted({key.rsplit("/", 1)[0] for key in store.keys(f"reports/{project.name}")})
    for old in windows[:-MAX_REPORTS]:
        for key in list(store.keys(old)):
            store.delete(key)
    return summary


def main() -> int:
    """Make a report, and print its summary."""
    parser = argparse.ArgumentParser(prog="services.monitor.report")
    parser.add_argument("--project", required=True)
    parser.add_argument("--snapshot", required=True)
    args = parser.parse_args()
    log.configure("monitor.report", from_environment().log_format)
    try:
        print(json.dumps(make(discovery.get(args.project), args.snapshot)))
    except PhaseflowError as error:
        return errors.report(error)
    except FileNotFoundError as error:
        return errors.report(
            DataError(f"A file is missing: {error}", fix="Retrain the project, then make the report again")
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
