"""Retention of the data."""

from __future__ import annotations

from dataclasses import dataclass

from phaseflow import checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Retention of the data of a project by `phaseflow clean`, as an age in days or as a number of the newest items.

    Items that an MLflow alias, a report or the next snapshot needs are retained regardless of their age.
    """

    log_days: int = 90
    """Rows of the prediction log and the feedback log, by hour."""
    staging_days: int = 7
    """Intermediate files of the ETL, which contain the unmodified rows of the source."""
    quarantine_days: int = 30
    """Invalid rows that the validation has rejected."""
    report_days: int = 30
    """Drift reports. The newest report always stays."""
    run_days: int = 365
    """Verdicts of the gate, one per run."""
    event_days: int = 365
    """Events, such as promotions and alerts."""
    pipeline_days: int = 30
    """Runs of the pipeline engine with the artifacts of their steps."""
    airflow_days: int = 90
    """DAG runs, task instances and XComs in the Airflow database. The maximum over all projects applies."""
    snapshots: int = 20
    """Snapshots of the training data."""
    versions: int = 20
    """Registered model versions, each with its MLflow run and artifacts."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            unit = "days" if name.endswith("_days") else name
            checks.within(f"Keep.{name}", getattr(self, name), 1, 36_500, unit)
