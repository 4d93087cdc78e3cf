"""A project's two DAGs: `<project>` trains and promotes, `<project>_monitor` judges the latest window of live data."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from airflow.sdk import DAG, BaseOperator, Context, CronTriggerTimetable, Param, TriggerRule
from airflow.sdk.exceptions import AirflowSkipException

from dags.docs import monitor_page, project_page
from dags.kfp import KFPRunOperator
from dags.modules import ModuleOperator
from dags.monitor import ReportOperator
from dags.runs import run_key
from dags.verify import VerifyOperator
from phaseflow import events, registry
from phaseflow.contract import Project
from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from phaseflow.verdict import refused

POOL: Final = "training"
"""One slot a training at a time; `phaseflow up` and the chart make it."""
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""From when the monitor's intervals are counted; none is caught up on."""
RETRIES: Final[Mapping[str, Any]] = {
    "retries": 2,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(minutes=5),
}
MODULE_RETRIES: Final = 5
"""Retries of a task that runs a component's module. The pauses are 5, 10, 20, 40 and 80 s, each up to twice as long, so that a store,
a disk or MLflow may be away for minutes. Wrong data is not tried again."""


def load(namespace: MutableMapping[str, Any]) -> None:
    """Put every sound project's DAGs into a DAG file's `globals()`, where Airflow finds them."""
    settings = from_environment()
    for project in _sound()[0]:
        for dag in (training(project, settings), monitoring(project, settings)):
            namespace[dag.dag_id] = dag


def check() -> None:
    """Raise PlatformError that holds every project whose declaration is wrong, with the fix."""
    broken = _sound()[1]
    if broken:
        raise PlatformError(
            "; ".join(f"projects/{name}/project.py: {error}" for name, error in broken.items()),
            fix=f"Until then there is no DAG of {', '.join(broken)}",
        )


def sound_projects() -> list[Project]:
    """The projects whose declaration can be read."""
    return _sound()[0]


def _sound() -> tuple[list[Project], dict[str, str]]:
    """The projects that can be read, and the errors of those that can't."""
    sound: list[Project] = []
    broken: dict[str, str] = {}
    for name in registry.names():
        try:
            sound.append(registry.get(name))
        except PhaseflowError as error:
            broken[name] = str(error)
        except Exception as error:  # a declaration is anyone's code: whatever it raises is its own error
            broken[name] = f"{type(error).__name__}: {error}"
    return sound, broken


def training(project: Project, settings: Settings) -> DAG:
    """The DAG `<project>`: extract > validate > snapshot > train > promote > verify."""
    with DAG(
        project.name,
        dag_display_name=project.title,
        description=project.description or None,
        doc_md=project_page(project, settings),
        # With no start date and no tolerance, a platform that starts for the first time does not train at once.
        schedule=CronTriggerTimetable(project.schedule, timezone="UTC", run_immediately=timedelta(0))
        if project.schedule
        else None,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=4),
        tags=sorted({f"phase {project.phase}", project.task, project.family, *project.tags}),
        params={
            "reason": Param(
                None,
                type=["null", "string"],  # the form lets an empty text not pass
                maxLength=2000,
                title="Reason",
                description="Why this run is started. It is kept in the project's history.",
            ),
            "promote": Param(
                True,
                type="boolean",
                title="Promote",
                description="Make the model champion if the gate passes it; else it stays challenger.",
            ),
        },
        default_args={"owner": project.owner, **RETRIES},
        user_defined_macros={"run_key": run_key},
    ) as dag:
        steps: list[BaseOperator] = [
            module_task(
                settings,
                task_id=step,
                group=project.family,
                module="pipelines.etl",
                arguments=[step, "--project", project.name, "--run", "{{ run_key(run_id) }}"],
                pre_execute=_announce if step == "extract" else None,
                execution_timeout=timedelta(minutes=30),
                doc_md=text,
            )
            for step, text in (
                ("extract", "The source's file: from the mirror, the public address, the cache, or the sample."),
                ("validate", "Rows against the schema. Bad ones are quarantined with the reason."),
                ("snapshot", "Base data and confirmed live rows, as Parquet under the hash of their content."),
            )
        ]
        train = KFPRunOperator(
            task_id="train",
            project=project.name,
            snapshot="{{ ti.xcom_pull(task_ids='snapshot')['snapshot'] }}",
            run="{{ run_key(run_id) }}",
            family=project.family,
            pool=POOL,
            doc_md="The Kubeflow pipeline: profile, train each candidate, evaluate, gate, register.",
        )
        promote = module_task(
            settings,
            task_id="promote",
            group="registry",
            module="services.registry",
            arguments=[
                "promote",
                "--project",
                project.name,
                "--version",
                "{{ ti.xcom_pull(task_ids='train').get('confirmed') or ti.xcom_pull(task_ids='train')['version'] }}",
            ],
            pre_execute=_only_if_promoted,
            execution_timeout=timedelta(minutes=5),
            doc_md="The alias `champion` to the new version, or to the confirmed champion. Skipped, with the reasons, where the gate refused.",
        )
        verify = VerifyOperator(
            task_id="verify",
            project=project.name,
            trigger_rule=TriggerRule.NONE_FAILED,
            doc_md="Waits until the service answers with the champion, then asks it for a prediction.",
        )
        tasks = [*steps, train, promote, verify]
        for before, after in pairwise(tasks):
            before >> after
    return dag


def monitoring(project: Project, settings: Settings) -> DAG:
    """The DAG `<project>_monitor`: one short task that has the monitor report on the latest window."""
    seconds = settings.monitor_seconds or project.monitor_seconds
    with DAG(
        f"{project.name}_monitor",
        dag_display_name=f"{project.title}: monitor",
        description="Has the latest window of live data judged.",
        doc_md=monitor_page(project, settings, seconds),
        schedule=timedelta(seconds=seconds),
        start_date=START,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        dagrun_timeout=timedelta(minutes=10),
        tags=sorted({f"phase {project.phase}", "monitor"}),
        default_args={"owner": project.owner, **RETRIES},
    ) as dag:
        ReportOperator(task_id="report", project=project.name, execution_timeout=timedelta(minutes=5))
    return dag


def module_task(settings: Settings, *, part: str = "steps", **arguments: Any) -> BaseOperator:
    """A component's module as a task: on Kubernetes a pod of its image, else a process in its environment.

    `part` is whose key of the object store such a pod has.
    """
    if settings.images:
        from dags.pods import PodModuleOperator  # noqa: PLC0415  # its provider is in Airflow's image alone

        return PodModuleOperator(retries=MODULE_RETRIES, part=part, **arguments)
    return ModuleOperator(retries=MODULE_RETRIES, **arguments)


def _announce(context: Context) -> None:
    """Say and keep why the run is here."""
    reason = (context["params"].get("reason") or "").strip() or f"started {context['dag_run'].run_type.value}"
    context["task"].log.info("Reason: %s", reason)
    if context["ti"].try_number == 1:
        settings = from_environment()
        project, run = context["dag"].dag_id, run_key(context["run_id"])
        data = {"run": run, "state": "started", "reason": reason}
        events.record(Store(settings.store), project, "run", data, source="dags")


def _only_if_promoted(context: Context) -> None:
    """Raise AirflowSkipException, with the reasons, where the new version stays challenger and the champion is not confirmed."""
    verdict = context["ti"].xcom_pull(task_ids="train")
    version, confirmed = verdict["version"], verdict.get("confirmed")
    why = ""
    if not (verdict["passed"] or confirmed):
        why = f"The gate refused version {version}: {refused(verdict)}"
    elif not context["params"]["promote"]:
        why = f"Version {version} passed the gate; it stays challenger, as was asked."
        if not verdict["passed"]:
            why = f"The champion was confirmed as version {confirmed}; it is not promoted, as was asked."
    if why:
        context["task"].log.warning("%s", why)  # Airflow's own line of a skipped task has no reason
        raise AirflowSkipException(why)
