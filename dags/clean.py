"""The DAG `clean` removes expired data every day; the DAG `forget` erases one row when a person triggers it."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from datetime import timedelta
from typing import Any, Final

from airflow.sdk import DAG, BaseOperator, CronTriggerTimetable, Param, TriggerRule

from dags import keep
from dags.factory import RETRIES, module_task
from phaseflow import discovery
from phaseflow.contract import Project
from phaseflow.settings import Settings, from_environment

SCHEDULE: Final = "30 4 * * *"
PART: Final = "maintenance"
"""The part whose object store key the pods get: it may delete, while the steps' key may not."""
STORE_GROUP: Final = "tabular"
"""Dependency group of an environment that can read Parquet."""
CLEAN: Final = """Removes data that is older than each project's `Keep` allows: logs, staging, quarantine, snapshots, reports, verdicts,
events, model versions, runs of the pipeline engine and, on a single machine, rows of Airflow's own database (on Kubernetes, a CronJob
removes these). Data that an alias, a report or the next snapshot needs is kept. `phaseflow clean --dry-run` lists what would be removed,
and why."""
FORGET: Final = """Erases a row from logs, snapshots and reports, as `phaseflow forget` does. The row is identified by the id in the
service's response. The result of `erase` lists what was changed and what could not be reached; the result of `versions` lists the models
that were trained on the row."""


def load(namespace: MutableMapping[str, Any]) -> None:
    """Add both DAGs to the `globals()` of a DAG file."""
    settings, projects = from_environment(), discovery.readable()[0]
    if projects:
        namespace["clean"] = cleaning(projects, settings)
        namespace["forget"] = forgetting(projects, settings)


def cleaning(projects: Sequence[Project], settings: Settings) -> DAG:
    """The DAG `clean`: for each project it cleans MLflow, which returns the versions with an alias, the store and the pipeline engine."""
    with DAG(
        "clean",
        dag_display_name="Clean",
        description="Removes data that has outlived its retention.",
        doc_md=CLEAN,
        # Without a start date and without a tolerance, a platform does not run it immediately when it first starts.
        schedule=CronTriggerTimetable(SCHEDULE, timezone="UTC", run_immediately=timedelta(0)),
        catchup=False,
        max_active_runs=1,
        max_active_tasks=1,  # leaves a small machine free for other work
        dagrun_timeout=timedelta(hours=12),
        tags=["retention"],
        default_args={**RETRIES, "execution_timeout": timedelta(hours=2)},
    ) as dag:
        for project in projects:
            name = ["--project", project.name]
            models = _task(settings, f"{project.name}.models", "registry", "services.registry", ["clean", *name])
            needed = f"{{{{ (ti.xcom_pull(task_ids='{models.task_id}') or {{}}).get('versions') | tojson }}}}"
            # Without a result of MLflow (null), everything that an alias may need is kept, and the rest is removed.
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
            _task(settings, "airflow", "command", "cli.local.airflow", arguments)
    return dag


def forgetting(projects: Sequence[Project], settings: Settings) -> DAG:
    """The DAG `forget`, which has the params `project` and `id`."""
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
                type=["null", "string"],  # Airflow can't load a DAG whose param has no value
                maxLength=200,
                title="Id of the row",
                description="`predictions[].id` in the service's response.",
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
