"""The DAG `maintenance`, which compacts the logs, so that the time to read them does not grow with their age."""

from __future__ import annotations

from collections.abc import MutableMapping
from datetime import timedelta
from typing import Any, Final

from airflow.sdk import DAG, CronTriggerTimetable

from dags.clean import PART, STORE_GROUP
from dags.factory import RETRIES, module_task
from phaseflow.settings import Settings, from_environment

SCHEDULE: Final = "25 * * * *"
"""Late enough for an hour to be complete: files shipped more than 20 minutes after it are merged by the next run."""
PAGE: Final = """Merges the small files of every complete hour of the prediction and feedback logs into one sorted file, and writes the
distribution of the hour's values next to it. Retraining, reports and a restarted service then read one file per hour."""


def load(namespace: MutableMapping[str, Any]) -> None:
    """Add the DAG to the `globals()` of a DAG file."""
    namespace["maintenance"] = maintaining(from_environment())


def maintaining(settings: Settings) -> DAG:
    """The DAG `maintenance`: one task for all projects, because starting a process or a pod takes longer than most of the work."""
    with DAG(
        "maintenance",
        dag_display_name="Maintenance",
        description="Merges the log files of complete hours.",
        doc_md=PAGE,
        # Without a start date and without a tolerance, a platform does not run it immediately when it first starts.
        schedule=CronTriggerTimetable(SCHEDULE, timezone="UTC", run_immediately=timedelta(0)),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        dagrun_timeout=timedelta(hours=3),
        tags=["retention"],
        default_args={**RETRIES, "execution_timeout": timedelta(hours=2)},
    ) as dag:
        module_task(
            settings,
            task_id="compact",
            group=STORE_GROUP,
            module="pipelines.etl.compact",
            arguments=[],
            part=PART,
            doc_md="Merges the small files of complete hours into one file per hour.",
        )
    return dag
