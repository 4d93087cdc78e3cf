"""The DAG `maintenance`, which keeps the logs such that reading them does not grow with history."""

from __future__ import annotations

from collections.abc import MutableMapping
from datetime import timedelta
from typing import Any, Final

from airflow.sdk import DAG, CronTriggerTimetable

from dags.clean import PART, STORE_GROUP
from dags.factory import RETRIES, START, module_task
from phaseflow.settings import Settings, from_environment

SCHEDULE: Final = "25 * * * *"
"""Late enough that an hour is finished: what is shipped later than 20 minutes after it is merged by the next run."""
PAGE: Final = """Merges the small files of every finished hour of the prediction and feedback logs into one sorted file, and writes beside
it how the hour's values were spread. A retraining, a report and a restarted service then read one file an hour."""


def load(namespace: MutableMapping[str, Any]) -> None:
    """Put the DAG into a DAG file's `globals()`."""
    namespace["maintenance"] = maintaining(from_environment())


def maintaining(settings: Settings) -> DAG:
    """The DAG `maintenance`: one task for all projects, as starting a process or a pod takes longer than most of its work."""
    with DAG(
        "maintenance",
        dag_display_name="Maintenance",
        description="Merges the logs of finished hours.",
        doc_md=PAGE,
        schedule=CronTriggerTimetable(SCHEDULE, timezone="UTC", run_immediately=timedelta(0)),
        start_date=START,
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
            doc_md="Small files of finished hours into one an hour.",
        )
    return dag
