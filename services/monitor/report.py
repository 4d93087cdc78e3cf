"""`python -m services.monitor.report --project P --snapshot H`: Evidently on the latest window, its result as JSON on stdout.

A process of its own: Evidently takes five seconds and 300 MiB to import, which the hook must not wait for or carry, and a report
that goes wrong or takes too long is ended without harm.
"""

from __future__ import annotations

import os

# Read by evidently when it is imported: nothing is sent to anyone.
os.environ["DO_NOT_TRACK"] = "1"

import argparse
import json
import sys
import tempfile
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from phaseflow import answers, erasure, logs, registry
from phaseflow.contract import DERIVED, NAMED, Project
from phaseflow.errors import PhaseflowError
from phaseflow.reference import PREDICTION
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit.newest import newest_traffic
from phaseflow.toolkit.scalars import figured_truths, scalars, vocabularies, words_of_answers

MOST_ROWS: Final = 5000
LEAST_ROWS: Final = 20
KEPT: Final = 50
TARGET: Final = "target"
ANGLES: Final = str.maketrans({"<": "\u2039", ">": "\u203a"})
"""Evidently writes what clients sent into a script of its page as it is: `</script>` would end it. These look alike and end nothing."""
NUMERIC: Final = frozenset({"number", "integer"})


def frames(store: Store, project: Project, snapshot: str, seconds: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The window's rows and the reference's, a bounded sample of each, with `target` where the truth is known.

    What is no scalar is replaced by its figures.
    """
    until = datetime.now(UTC)
    since = until - timedelta(seconds=seconds)
    current = logs.sample(store, "predictions", project.name, since, until, MOST_ROWS, project.seed)
    current = erasure.erasures(store, project.name).without(current)
    if current.is_empty():
        return current, current
    truths = logs.labels_of(store, project.name, current["id"], since, until)
    if not truths.is_empty():
        current = current.join(truths.select("id", pl.col("truth").alias(TARGET)), on="id", how="left")
    held = erasure.current(store, project.name, snapshot)
    train = pl.read_parquet(store.read(f"datasets/{project.name}/{held}/train.parquet"))
    reference = newest_traffic(project, train)
    if project.schema.target is not None:
        reference = reference.rename({project.schema.target.name: TARGET})
    known = vocabularies(project.schema, reference, train)
    if answers.structured(project.schema.target):
        known |= words_of_answers(project.schema.target, reference[TARGET].to_list())
    sides = (_bounded(rows, project.seed) for rows in (current, reference))
    target = project.schema.target
    seen = [figured_truths(target, scalars(project.schema, rows, known), TARGET, known) for rows in sides]
    return seen[0], seen[1]


def shown(text: str | None) -> str | None:
    """A value as the page may hold it: without what begins a tag or ends a script."""
    return None if text is None else text.translate(ANGLES)


def _of_target(name: str) -> str:
    return TARGET + name.removeprefix(PREDICTION)


def _bounded(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    return rows.sample(MOST_ROWS, seed=seed) if rows.height > MOST_ROWS else rows


def judged(project: Project, current: pl.DataFrame, reference: pl.DataFrame) -> tuple[bytes, dict[str, Any]]:
    """Evidently's page, and the PSI by feature."""
    warnings.filterwarnings("ignore")
    import pandas as pd  # noqa: PLC0415  # only after the window is known to hold rows
    from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415
    from evidently.presets import DataDriftPreset, DataSummaryPreset  # noqa: PLC0415

    names = [figure for column in project.schema.features for figure in column.watchable]
    truths = [_of_target(name) for name in answers.watched(project.schema.target)]
    truth = all(name in current.columns and current[name].drop_nulls().len() >= LEAST_ROWS for name in truths)
    columns = [*names, *truths] if truth else names
    numbers = [
        figure
        for column in project.schema.features
        if column.kind in NUMERIC or column.kind in DERIVED.keys() - NAMED
        for figure in column.figures
    ]
    target = project.schema.target
    if truth and target is not None and target.kind in NUMERIC | {"boxes", "action", "text"}:
        numbers += truths
    # A column that one side lacks wholly can't be compared.
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
        values = {
            name: pd.Series(
                rows[name].cast(pl.Float64).to_numpy()
                if name in numbers
                else [shown(value) for value in rows[name].cast(pl.String)],
                dtype=None if name in numbers else object,
            )
            for name in columns
        }
        return Dataset.from_pandas(pd.DataFrame(values), data_definition=definition)

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


def make(project: Project, snapshot: str) -> dict[str, Any]:
    """Judge the latest window and keep the report."""
    settings = from_environment()
    store = Store(settings.store)
    seconds = settings.drift_window_seconds or project.drift.window_seconds
    current, reference = frames(store, project, snapshot, seconds)
    now = datetime.now(UTC)
    if current.height < LEAST_ROWS:
        return {"rows": 0, "reason": f"{current.height} requests in the last {seconds} s; a report needs {LEAST_ROWS}"}
    content, scores = judged(project, current, reference)
    name = f"{now:%Y%m%dT%H%M%SZ}"
    folder = f"reports/{project.name}/{name}"
    found = {
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
    store.write(f"{folder}/report.json", json.dumps(found, indent=1).encode())
    windows = sorted({key.rsplit("/", 1)[0] for key in store.keys(f"reports/{project.name}")})
    for old in windows[:-KEPT]:
        for key in list(store.keys(old)):
            store.delete(key)
    return found


def main() -> int:
    """Make one, and print it."""
    parser = argparse.ArgumentParser(prog="services.monitor.report")
    parser.add_argument("--project", required=True)
    parser.add_argument("--snapshot", required=True)
    told = parser.parse_args()
    try:
        print(json.dumps(make(registry.get(told.project), told.snapshot)))
    except (PhaseflowError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
