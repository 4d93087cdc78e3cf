"""The DAG `clean` removes expired data every day; the DAG `forget` erases one row when a person triggers it."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from datetime import timedelta
from typing import Any, Final

from airflow.sdk import DAG, BaseOperator, CronTriggerTimetable, Param, TriggerRule

from dags import keep
from dags.factory import RETRIES, START, module_task, sound_projects
from phaseflow.contract import Project
from phaseflow.settings import Settings, from_environment

SCHEDULE: Final = "30 4 * * *"
PART: Final = "maintenance"
"""Whose key of the object store the pods have: it may remove, and the steps' may not."""
STORE_GROUP: Final = "tabular"
"""Dependency group of the environment that reads Parquet."""
CLEAN: Final = """Removes what is older than each project's `Keep` says: logs, staging, quarantine, snapshots, reports, verdicts,
events, versions of the model, runs of the pipeline engine, and on one machine the rows of Airflow's own database (on Kubernetes a
CronJob does that). What an alias, a report or the next snapshot needs stays. `phaseflow clean --dry-run` says what would go, and why."""
FORGET: Final = """Erases a row, by the id that the service answered, from logs, snapshots and reports, as `phaseflow forget` does.
The result of `erase` says what was changed and what is not reached; that of `versions`, which models were trained on the row."""


def load(namespace: MutableMapping[str, Any]) -> None:
    """Put both DAGs into a DAG file's `globals()`."""
    settings, projects = from_environment(), sound_projects()
    if projects:
        namespace["clean"] = cleaning(projects, settings)
        namespace["forget"] = forgetting(projects, settings)


def cleaning(projects: Sequence[Project], settings: Settings) -> DAG:
    """The DAG `clean`: of each project MLflow first, which says what its aliases need, then the store and the pipeline engine."""
    with DAG(
        "clean",
        dag_display_name="Clean",
        description="Removes data that has outlived its retention.",
        doc_md=CLEAN,
        schedule=CronTriggerTimetable(SCHEDULE, timezone="UTC", run_immediately=timedelta(0)),
        start_date=START,
        catchup=False,
        max_active_runs=1,
        max_active_tasks=1,  # a small machine has other things to do
        dagrun_timeout=timedelta(hours=12),
        tags=["retention"],
        default_args={**RETRIES, "execution_timeout": timedelta(hours=2)},
    ) as dag:
        for project in projects:
            name = ["--project", project.name]
            models = _task(settings, f"{project.name}.models", "registry", "services.registry", ["clean", *name])
            needed = f"{{{{ (ti.xcom_pull(task_ids='{models.task_id}') or {{}}).get('versions') | tojson }}}}"
            # Without MLflow's answer (null) what its aliases may need stays, and the rest goes.
            objects = _task(
                settings,
                f"{project.name}.objects",
                STORE_GROUP,
                "pipelines.retention",
                ["clean", *name, "--versions", needed],
                trigger_rule=TriggerRule.ALL_DONE,
            )
            _task(settings, f"{project.name}.runs", STORE_GROUP, "pipelines.retention", ["runs", *name])
            models >> objects
        if not settings.images:
            arguments = ["clean", "--days", str(keep.days(projects))]
            _task(settings, "airflow", "command", "phaseflow.embedded.airflow", arguments)
    return dag


def forgetting(projects: Sequence[Project], settings: Settings) -> DAG:
    """The DAG `forget`, with the params `project` and `id`."""
    with DAG(
        "forget",
        dag_display_name="Forget a row",
        description="Erases a row from logs, snapshots and reports.",
        doc_md=FORGET,
        schedule=None,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=4),
        tags=["retention"],
        params={
            "project": Param(
                projects[0].name, type="string", enum=[project.name for project in projects], title="Project"
            ),
            "id": Param(
                None,
                type=["null", "string"],  # without a value Airflow could not read the DAG
                maxLength=200,
                title="Id of the row",
                description="`predictions[].id` of the service's answer.",
            ),
        },
        default_args={**RETRIES, "execution_timeout": timedelta(hours=2)},
    ) as dag:
        name = ["--project", "{{ params.project }}"]
        erase = _task(
            settings,
            "erase",
            STORE_GROUP,
            "pipelines.retention",
            ["forget", *name, "--id={{ params.id or '' }}"],
        )
        erase >> _task(settings, "versions", "registry", "services.registry", ["forget", *name])
    return dag


def _task(
    settings: Settings, task_id: str, group: str, module: str, arguments: Sequence[str], **options: Any
) -> BaseOperator:
    return module_task(settings, task_id=task_id, group=group, module=module, arguments=arguments, part=PART, **options)
