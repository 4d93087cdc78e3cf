"""`python -m services.monitor.report --project P --snapshot H` runs Evidently on the latest window and prints the result as JSON.

It runs in its own process: importing Evidently takes five seconds and 300 MiB, which must not burden the hook, and a report that fails
or takes too long can be killed without harm.
"""

from __future__ import annotations

import os

# Read by Evidently on import: it disables telemetry.
os.environ["DO_NOT_TRACK"] = "1"

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from phaseflow import discovery, erasure, errors, kinds, log, logs, prediction_types
from phaseflow.contract import Project
from phaseflow.errors import DataError, PhaseflowError
from phaseflow.reference import PREDICTION
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit.newest import newest_traffic
from phaseflow.toolkit.scalars import label_descriptors, prediction_vocabulary, scalars, vocabularies

MAX_ROWS: Final = 5000
MIN_ROWS: Final = 20
MAX_REPORTS: Final = 50
TARGET: Final = "target"
ANGLES: Final = str.maketrans({"<": "\u2039", ">": "\u203a"})
"""Evidently writes clients' values unescaped into a script of its page, where `</script>` would end the script. These characters look
alike and are harmless."""


def frames(store: Store, project: Project, snapshot: str, seconds: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Samples of the window's rows and of the reference rows, at most MAX_ROWS each, with `target` if labels are known.

    Non-scalar values are replaced by their descriptors.
    """
    until = datetime.now(UTC)
    since = until - timedelta(seconds=seconds)
    current = logs.sample(store, "predictions", project.name, since, until, MAX_ROWS, project.seed)
    current = erasure.erasures(store, project.name).without(current)
    if current.is_empty():
        return current, current
    labels = logs.labels_of(store, project.name, current["id"], since, until)
    if not labels.is_empty():
        current = current.join(labels.select("id", pl.col("label").alias(TARGET)), on="id", how="left")
    current_snapshot = erasure.current(store, project.name, snapshot)
    train = pl.read_parquet(store.read(f"datasets/{project.name}/{current_snapshot}/train.parquet"))
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
    return current, reference


def escape_tags(text: str | None) -> str | None:
    """Replace the angle brackets of a value, so that it can neither begin a tag nor end a script."""
    return None if text is None else text.translate(ANGLES)


def _of_target(name: str) -> str:
    return TARGET + name.removeprefix(PREDICTION)


def _bounded(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    return rows.sample(MAX_ROWS, seed=seed) if rows.height > MAX_ROWS else rows


def drift_report(project: Project, current: pl.DataFrame, reference: pl.DataFrame) -> tuple[bytes, dict[str, Any]]:
    """Evidently's HTML page, and the PSI per feature."""
    warnings.filterwarnings("ignore")
    # Slow: imported only if the window holds rows.
    from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415
    from evidently.presets import DataDriftPreset, DataSummaryPreset  # noqa: PLC0415

    names = [figure for column in project.schema.features for figure in column.monitorable]
    labels = [_of_target(name) for name in prediction_types.monitored_names(project.schema.target)]
    label = all(name in current.columns and current[name].drop_nulls().len() >= MIN_ROWS for name in labels)
    columns = [*names, *labels] if label else names
    numbers = [
        figure
        for column in project.schema.features
        if kinds.of(column).has_numeric_statistics
        for figure in column.descriptors
    ]
    target = project.schema.target
    if label and target is not None and kinds.of(target).has_numeric_statistics:
        numbers += labels
    # A column that is entirely null on one side can't be compared.
    columns = [
        name
        for name in columns
        if current[name].null_count() < current.height and reference[name].null_count() < reference.height
    ]
    definition = DataDefinition(
        numerical_columns=[name for name in columns if name in numbers],
        categorical_columns=[name for name in columns if name not in numbers],
    )

    def dataset(rows: pl.DataFrame) -> Any:
        return Dataset.from_pandas(_to_pandas(rows.select(columns), numbers), data_definition=definition)

    report = Report(
        [
            DataDriftPreset(
                columns=columns,
                num_method="psi",
                cat_method="psi",
                num_threshold=project.drift.psi,
                cat_threshold=project.drift.psi,
            ),
            DataSummaryPreset(columns=columns),
        ]
    )
    snapshot = report.run(dataset(current), dataset(reference))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        snapshot.save_html(str(page))
        content = page.read_bytes()
    scores = {
        metric["config"]["column"]: float(metric["value"])
        for metric in snapshot.dict()["metrics"]
        if str(metric["config"].get("type", "")).endswith("ValueDrift")
    }
    return content, scores


def _to_pandas(rows: pl.DataFrame, numbers: Collection[str]) -> Any:
    """Convert the rows: columns in `numbers` to floats, and others to text in which nothing is an HTML tag."""
    import pandas as pd  # noqa: PLC0415  # as above

    values = {
        name: pd.Series(
            rows[name].cast(pl.Float64).to_numpy()
            if name in numbers
            else [escape_tags(value) for value in rows[name].cast(pl.String)],
            dtype=None if name in numbers else object,
        )
        for name in rows.columns
    }
    return pd.DataFrame(values)


def make(project: Project, snapshot: str) -> dict[str, Any]:
    """Compare the latest window with the reference, store the report, and return its summary."""
    settings = from_environment()
    store = Store(settings.store)
    seconds = settings.drift_window_seconds or project.drift.window_seconds
    current, reference = frames(store, project, snapshot, seconds)
    now = datetime.now(UTC)
    if current.height < MIN_ROWS:
        return {"rows": 0, "reason": f"{current.height} requests in the last {seconds} s; a report needs {MIN_ROWS}"}
    content, scores = drift_report(project, current, reference)
    name = f"{now:%Y%m%dT%H%M%SZ}"
    folder = f"reports/{project.name}/{name}"
    summary = {
        "project": project.name,
        "window": name,
        "seconds": seconds,
        "rows": current.height,
        "reference_rows": reference.height,
        "snapshot": snapshot,
        "scores": scores,
        "drifted": sorted(feature for feature, score in scores.items() if score > project.drift.psi),
        "threshold": project.drift.psi,
        "time": now.timestamp(),
        "report": f"{settings.page('monitor')}/reports/{project.name}/{name}/report.html",
    }
    store.write(f"{folder}/report.html", content)
    store.write(f"{folder}/report.json", json.dumps(summary, indent=1).encode())
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
