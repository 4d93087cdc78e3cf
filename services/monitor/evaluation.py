"""Evidently's runs of a window: drift and data summary against the reference, and quality once labels are known.

Source: Evidently's presets, https://docs.evidentlyai.com/metrics/all_presets.
"""

from __future__ import annotations

import os

# Read by Evidently on import: it disables telemetry.
os.environ["DO_NOT_TRACK"] = "1"

import json
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from phaseflow import kinds, prediction_types
from phaseflow.contract import Metric, Project
from phaseflow.log import logger
from phaseflow.reference import PREDICTION

MIN_ROWS: Final = 20
TARGET: Final = "target"
DRIFT_SHARE: Final = 0.5
"""Share of drifted columns from which Evidently calls the whole dataset drifted: its own default."""
ANGLES: Final = str.maketrans({"<": "\u2039", ">": "\u203a"})
"""Evidently writes clients' values unescaped into a script of its page, where `</script>` would end the script. These characters look
alike and are harmless."""
CLASSIFICATION_TESTS: Final[Mapping[str, str]] = {
    "accuracy": "accuracy_tests",
    "f1": "f1score_tests",
    "precision": "precision_tests",
    "recall": "recall_tests",
}
"""Metrics of the contract that Evidently computes from classes alone, and the parameter of its preset."""
REGRESSION_TESTS: Final[Mapping[str, str]] = {"mae": "mae_tests", "rmse": "rmse_tests", "r2": "r2score_tests"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The rows of a window and of the reference."""

    current: pl.DataFrame
    """The rows of requests, with `target` if labels are known. Non-scalar values are replaced by their descriptors."""
    reference: pl.DataFrame
    labelled: pl.DataFrame
    """`prediction` and `target` of the rows with a label, as they are in the logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What identifies a run in the workspace."""

    window: str
    """Name of the window, its time in UTC."""
    time: datetime
    metadata: Mapping[str, str]
    source: str
    """Source of the snapshot, by which the contract's thresholds are chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of Evidently."""

    name: str
    page: bytes
    """The HTML page."""
    content: bytes
    """The run in the format of an Evidently workspace, JSON."""
    metrics: Sequence[Mapping[str, Any]]
    tests: Sequence[Mapping[str, Any]]

    def counts(self) -> Counter[str]:
        """Number of tests per status: `success`, `fail`, `warning`, `error` or `skipped`."""
        return Counter(str(test["status"].value).lower() for test in self.tests)

    def failed(self) -> list[str]:
        """Names of the tests that did not succeed."""
        return [str(test["name"]) for test in self.tests if test["status"].value not in {"SUCCESS", "SKIPPED"}]


def escape_tags(text: str | None) -> str | None:
    """Replace the angle brackets of a value, so that it can neither begin a tag nor end a script."""
    return None if text is None else text.translate(ANGLES)


def evaluate(project: Project, window: Window, labels: Labels) -> list[Run]:
    """The runs of a window: `drift`, `summary`, and `quality` if enough labels are known."""
    warnings.filterwarnings("ignore")
    columns, datasets = _compared(project, window)
    runs = [_drift(project, columns, datasets, labels), _summary(columns, datasets, labels)]
    measured = quality(project, window.labelled, labels)
    return [*runs, measured] if measured else runs


def scores(drift: Run) -> dict[str, float]:
    """The drift score per column of the run `drift`."""
    return {
        metric["config"]["column"]: float(metric["value"])
        for metric in drift.metrics
        if str(metric["config"].get("type", "")).endswith("ValueDrift")
    }


def _drift(project: Project, columns: list[str], datasets: tuple[Any, Any], labels: Labels) -> Run:
    from evidently.presets import DataDriftPreset  # noqa: PLC0415  # slow: imported only if the window holds rows

    preset = DataDriftPreset(
        columns=columns,
        num_method="psi",
        cat_method="psi",
        num_threshold=project.drift.psi,
        cat_threshold=project.drift.psi,
        drift_share=DRIFT_SHARE,
    )
    return _run("drift", [preset], datasets, labels, include_tests=True)


def _summary(columns: list[str], datasets: tuple[Any, Any], labels: Labels) -> Run:
    from evidently.presets import DataSummaryPreset  # noqa: PLC0415  # as above

    return _run("summary", [DataSummaryPreset(columns=columns)], datasets, labels)


def _compared(project: Project, window: Window) -> tuple[list[str], tuple[Any, Any]]:
    """The columns that both sides have, and the current and the reference rows as datasets of Evidently."""
    from evidently import DataDefinition  # noqa: PLC0415  # as above

    current, reference = window.current, window.reference
    names = [figure for column in project.schema.features for figure in column.monitorable]
    targets = [_of_target(name) for name in prediction_types.monitored_names(project.schema.target)]
    label = all(name in current.columns and current[name].drop_nulls().len() >= MIN_ROWS for name in targets)
    numbers = {
        figure
        for column in project.schema.features
        if kinds.of(column).has_numeric_statistics
        for figure in column.descriptors
    }
    target = project.schema.target
    if label and target is not None and kinds.of(target).has_numeric_statistics:
        numbers.update(targets)
    # A column that is entirely null on one side can't be compared.
    columns = [
        name
        for name in ([*names, *targets] if label else names)
        if current[name].null_count() < current.height and reference[name].null_count() < reference.height
    ]
    definition = DataDefinition(
        numerical_columns=[name for name in columns if name in numbers],
        categorical_columns=[name for name in columns if name not in numbers],
    )
    return columns, (
        _dataset(current.select(columns), numbers, definition),
        _dataset(reference.select(columns), numbers, definition),
    )


def quality(project: Project, labelled: pl.DataFrame, labels: Labels) -> Run | None:
    """Quality of the rows with a label by the presets of their kind; None without enough of them, or without a preset.

    None too, with a warning, if Evidently fails: it raises for values that it can't plot, such as a constant error.
    """
    target = project.schema.target
    if target is None or labelled.height < MIN_ROWS:
        return None
    make = _PRESETS.get(kinds.of_target(target).task)
    try:
        result = make(project, labelled, labels.source) if make else None
        return None if result is None else _run("quality", result[0], (result[1], None), labels)
    except Exception as error:  # the other runs of the report are good
        logger.warning("Evidently can't compute the quality of %s: %s: %s", project.name, type(error).__name__, error)
        return None


def _classification(project: Project, labelled: pl.DataFrame, source: str) -> tuple[list[Any], Any] | None:
    from evidently import BinaryClassification, DataDefinition, MulticlassClassification  # noqa: PLC0415
    from evidently.presets import ClassificationPreset  # noqa: PLC0415

    classes = sorted({*labelled[TARGET].cast(pl.String), *labelled[PREDICTION].cast(pl.String)})
    if labelled[TARGET].n_unique() < 2:
        return None  # no metric but the accuracy is defined
    columns = {"target": TARGET, "prediction_labels": PREDICTION}
    task = (
        # The last class is the positive one, as in the training metrics.
        BinaryClassification(**columns, pos_label=escape_tags(classes[-1]))
        if len(classes) == 2
        else MulticlassClassification(**columns)
    )
    definition = DataDefinition(categorical_columns=[TARGET, PREDICTION], classification=[task])
    preset = ClassificationPreset(**_tests(project, source, CLASSIFICATION_TESTS))
    return [preset], _dataset(labelled, (), definition)


def _regression(project: Project, labelled: pl.DataFrame, source: str) -> tuple[list[Any], Any]:
    from evidently import DataDefinition, Regression  # noqa: PLC0415
    from evidently.presets import RegressionPreset  # noqa: PLC0415

    columns = [TARGET, PREDICTION]
    definition = DataDefinition(
        numerical_columns=columns, regression=[Regression(target=TARGET, prediction=PREDICTION)]
    )
    preset = RegressionPreset(**_tests(project, source, REGRESSION_TESTS))
    return [preset], _dataset(labelled, columns, definition)


def _ranking(project: Project, labelled: pl.DataFrame, _source: str) -> tuple[list[Any], Any] | None:
    """Metrics that need the recommended ids alone.

    Evidently's RecsysPreset has recall and NDCG too, which need the ids that were not recommended. As rows beyond the
    ranking they would change the last rank, which is what a dashboard shows.
    """
    import pandas as pd  # noqa: PLC0415
    from evidently import DataDefinition, Dataset, Recsys  # noqa: PLC0415
    from evidently.metrics import MRR, HitRate, Personalization, PrecisionTopK, RecCasesTable  # noqa: PLC0415

    target = project.schema.target
    rows = [
        (str(number), escape_tags(item), 1 / rank, int(item in relevant))
        for number, (prediction, label) in enumerate(labelled.select(PREDICTION, TARGET).iter_rows())
        for relevant in [set(prediction_types.parse(label, target))]
        for rank, item in enumerate(prediction_types.parse(prediction, target), 1)
    ]
    if not any(relevant for *_, relevant in rows):
        return None  # no metric is defined
    k = round(1 / min(score for _, _, score, _ in rows))
    recsys = Recsys(user_id="user", item_id="item", target=TARGET, prediction=PREDICTION, recommendations_type="score")
    definition = DataDefinition(categorical_columns=["user", "item"], ranking=[recsys])
    frame = pd.DataFrame(rows, columns=["user", "item", PREDICTION, TARGET])
    metrics = [PrecisionTopK(k=k), HitRate(k=k), MRR(k=k), Personalization(k=k), RecCasesTable()]
    return metrics, Dataset.from_pandas(frame, data_definition=definition)


_PRESETS: Final[Mapping[str, Callable[[Project, pl.DataFrame, str], tuple[list[Any], Any] | None]]] = {
    "classification": _classification,
    "regression": _regression,
    "ranking": _ranking,
}


def _tests(project: Project, source: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of a preset: for each metric with a threshold in the contract, the test that it holds."""
    from evidently.tests import gte, lte  # noqa: PLC0415

    def condition(metric: Metric, threshold: float) -> Any:
        return [gte(threshold) if metric.direction == "higher" else lte(threshold)]

    return {
        parameters[metric.name]: condition(metric, threshold)
        for metric in project.metrics
        if metric.name in parameters and (threshold := metric.limit(source)) is not None
    }


def _run(
    name: str, metrics: list[Any], datasets: tuple[Any, Any | None], labels: Labels, *, include_tests: bool = False
) -> Run:
    """Compute metrics or presets, with the tests that they name, or with their own too if `include_tests`."""
    from evidently import Report  # noqa: PLC0415
    from evidently.legacy.utils import NumpyEncoder  # noqa: PLC0415  # the encoder of Evidently's workspaces

    report = Report(metrics, include_tests=include_tests, metadata=dict(labels.metadata), tags=[name])
    snapshot = report.run(*datasets, name=f"{labels.window} {name}", timestamp=labels.time)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        snapshot.save_html(str(page))
        html = page.read_bytes()
    figures = snapshot.dict()
    return Run(
        name=name,
        page=html,
        content=json.dumps(_lean(snapshot.to_snapshot_model().dict()), cls=NumpyEncoder).encode(),
        metrics=figures["metrics"],
        tests=figures["tests"],
    )


def _lean(value: Any) -> Any:
    """Remove what no page shows, four fifths of a run: Plotly's template in each plot, and a second copy of each metric's plots."""
    if isinstance(value, dict):
        without = {"widget"} if "metric_value_location" in value else {"template"} if "xaxis" in value else set()
        return {key: _lean(content) for key, content in value.items() if key not in without}
    return [_lean(item) for item in value] if isinstance(value, list) else value


def _dataset(rows: pl.DataFrame, numbers: Collection[str], definition: Any) -> Any:
    """Rows as a dataset of Evidently: columns in `numbers` as floats, others as text in which nothing is an HTML tag."""
    import pandas as pd  # noqa: PLC0415
    from evidently import Dataset  # noqa: PLC0415

    values = {
        name: pd.Series(
            rows[name].cast(pl.Float64).to_numpy()
            if name in numbers
            else [escape_tags(value) for value in rows[name].cast(pl.String)],
            dtype=None if name in numbers else object,
        )
        for name in rows.columns
    }
    return Dataset.from_pandas(pd.DataFrame(values), data_definition=definition)


def _of_target(name: str) -> str:
    return TARGET + name.removeprefix(PREDICTION)
