"""A project's two DAGs: `<project>` trains and promotes a model, `<project>_monitor` checks the latest window of live data for drift."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from airflow.sdk import (
    DAG,
    AssetOrTimeSchedule,
    BaseOperator,
    Context,
    CronTriggerTimetable,
    DeltaTriggerTimetable,
    Param,
    TriggerRule,
)
from airflow.sdk.exceptions import AirflowSkipException

from dags import assets
from dags.docs import monitor_page, project_page, verdict_page
from dags.kfp import KFPRunOperator
from dags.modules import ModuleOperator
from dags.monitor import ReportOperator
from dags.runs import run_key
from dags.verify import VerifyOperator
from phaseflow import discovery, events
from phaseflow.contract import Project
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from phaseflow.verdict import refused

POOL: Final = "training"
"""The pool that limits the number of concurrent trainings; `phaseflow up` and the chart create it."""
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""Start of the schedules' intervals; past intervals are not caught up on."""
RETRIES: Final[Mapping[str, Any]] = {
    "retries": 2,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(minutes=5),
}
MODULE_RETRIES: Final = 5
"""Retries of a task that runs a component's module. The delays are 5, 10, 20, 40 and 80 s, or up to twice as long, so that the store, a
disk or MLflow may be unavailable for minutes. Wrong data is not retried."""


def load(namespace: MutableMapping[str, Any]) -> None:
    """Add the DAGs of every valid project to the `globals()` of a DAG file, where Airflow finds them."""
    settings = from_environment()
    for project in discovery.readable()[0]:
        for dag in (training(project, settings), monitoring(project, settings)):
            namespace[dag.dag_id] = dag


def check() -> None:
    """Raise PlatformError if a project's declaration is invalid, with the error and fix of every such project."""
    broken = discovery.readable()[1]
    if broken:
        raise PlatformError(
            "; ".join(f"projects/{name}/project.py: {error}" for name, error in broken.items()),
            fix=f"Until they are fixed, there are no DAGs for {', '.join(broken)}",
        )


def training(project: Project, settings: Settings) -> DAG:
    """The DAG `<project>`: extract > validate > snapshot > train > promote > verify.

    If the gate asks for an approval, the task `approve` waits for a person before `promote`.
    """
    with DAG(
        project.name,
        dag_display_name=project.title,
        description=project.description or None,
        doc_md=project_page(project, settings),
        # Without a start date and without a tolerance, a platform does not train immediately when it first starts.
        schedule=CronTriggerTimetable(project.schedule, timezone="UTC", run_immediately=timedelta(0))
        if project.schedule
        else None,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=4 + project.gate.approval_hours),
        tags=sorted({f"phase {project.phase}", project.task, project.environment, *project.tags}),
        params=_params(),
        default_args={"owner": project.owner, **RETRIES},
        user_defined_macros={"run_key": run_key, "verdict_page": verdict_page},
    ) as dag:
        steps = _etl(project, settings)
        train = KFPRunOperator(
            task_id="train",
            project=project.name,
            snapshot="{{ ti.xcom_pull(task_ids='snapshot')['snapshot'] }}",
            run="{{ run_key(run_id) }}",
            environment=project.environment,
            pool=POOL,
            inlets=[assets.snapshot(project.name)],
            doc_md="Runs the Kubeflow pipeline: profile, train each candidate, evaluate, gate, register.",
        )
        decision = [*_approval(project), _promotion(project, settings)]
        verify = VerifyOperator(
            task_id="verify",
            project=project.name,
            trigger_rule=TriggerRule.NONE_FAILED,
            doc_md="Waits until the service has loaded the champion, then requests a prediction.",
        )
        tasks = [*steps, train, *decision, verify]
        for before, after in pairwise(tasks):
            before >> after
    return dag


def _approval(project: Project) -> list[BaseOperator]:
    """The task that asks a person to approve the promotion, if the gate asks for that."""
    if not project.gate.approval_hours:
        return []
    # Imported here because it takes a third of a second, and few projects need it.
    from airflow.providers.standard.operators.hitl import ApprovalOperator  # noqa: PLC0415

    return [
        ApprovalOperator(
            task_id="approve",
            subject=f"Promote version {{{{ ti.xcom_pull(task_ids='train')['version'] }}}} of {project.title}?",
            body="{{ verdict_page(ti.xcom_pull(task_ids='train')) }}",
            defaults=ApprovalOperator.REJECT,
            response_timeout=timedelta(hours=project.gate.approval_hours),
            pre_execute=_only_if_promoted,
            doc_md="Waits until a person approves the promotion. Skipped, with the reasons, if the gate refused. "
            "Without a response in time, the version stays challenger.",
        )
    ]


def _promotion(project: Project, settings: Settings) -> BaseOperator:
    """The task that moves the alias `champion`."""
    return module_task(
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
        post_execute=assets.record,
        outlets=[assets.model(project.name)],
        execution_timeout=timedelta(minutes=5),
        doc_md="Moves the alias `champion` to the new version, or to the confirmed champion. Skipped, with the reasons, if the gate refused.",
    )


def _params() -> dict[str, Param]:
    """The form of a manual run."""
    return {
        "reason": Param(
            None,
            type=["null", "string"],  # the form does not accept an empty string
            maxLength=2000,
            title="Reason",
            description="Why you start this run. The reason is stored in the project's history.",
        ),
        "promote": Param(
            True,
            type="boolean",
            title="Promote",
            description="Make the model champion if it passes the gate; otherwise it stays challenger.",
        ),
    }


def _etl(project: Project, settings: Settings) -> list[BaseOperator]:
    """The tasks extract, validate and snapshot."""
    return [
        module_task(
            settings,
            task_id=step,
            group=project.environment,
            module="pipelines.etl",
            arguments=[step, "--project", project.name, "--run", "{{ run_key(run_id) }}"],
            pre_execute=_announce if step == "extract" else None,
            post_execute=assets.record if step == "snapshot" else None,
            outlets=[assets.snapshot(project.name)] if step == "snapshot" else None,
            execution_timeout=timedelta(minutes=30),
            doc_md=text,
        )
        for step, text in (
            ("extract", "Gets the source's file: from the mirror, the public URL, the cache, or the sample."),
            ("validate", "Validates rows against the schema. Invalid rows are quarantined with the reason."),
            ("snapshot", "Writes base data and labelled live rows as Parquet, named by the hash of their content."),
        )
    ]


def monitoring(project: Project, settings: Settings) -> DAG:
    """The DAG `<project>_monitor`: one short task that asks the monitor for a report on the latest window."""
    seconds = settings.monitor_seconds or project.monitor_seconds
    with DAG(
        f"{project.name}_monitor",
        dag_display_name=f"{project.title}: monitor",
        description="Checks the latest window of live data for drift.",
        doc_md=monitor_page(project, settings, seconds),
        # Also as soon as there is another champion.
        schedule=AssetOrTimeSchedule(
            timetable=DeltaTriggerTimetable(timedelta(seconds=seconds)), assets=assets.model(project.name)
        ),
        start_date=START,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        dagrun_timeout=timedelta(minutes=10),
        tags=sorted({f"phase {project.phase}", "monitor"}),
        default_args={"owner": project.owner, **RETRIES},
    ) as dag:
        ReportOperator(
            task_id="report",
            project=project.name,
            inlets=[assets.model(project.name)],
            outlets=[assets.report(project.name)],
            post_execute=assets.record,
            execution_timeout=timedelta(minutes=5),
        )
    return dag


def module_task(settings: Settings, *, part: str = "steps", **arguments: Any) -> BaseOperator:
    """A task that runs a component's module: on Kubernetes in a pod of its image, otherwise in a process of its environment.

    `part` decides which key of the object store the pod gets.
    """
    if settings.images:
        from dags.pods import PodModuleOperator  # noqa: PLC0415  # the provider is only installed in Airflow's image

        return PodModuleOperator(retries=MODULE_RETRIES, part=part, **arguments)
    return ModuleOperator(retries=MODULE_RETRIES, **arguments)


def _announce(context: Context) -> None:
    """Log the run's reason, and record it as an event."""
    reason = (context["params"].get("reason") or "").strip() or f"started {context['dag_run'].run_type.value}"
    context["task"].log.info("Reason: %s", reason)
    if context["ti"].try_number == 1:
        settings = from_environment()
        project, run = context["dag"].dag_id, run_key(context["run_id"])
        data = {"run": run, "state": "started", "reason": reason}
        events.record(Store(settings.store), project, "run", data, source="dags")


def _only_if_promoted(context: Context) -> None:
    """Raise AirflowSkipException, with the reasons, if there is nothing to promote or the run's params forbid it."""
    verdict = context["ti"].xcom_pull(task_ids="train")
    version, confirmed = verdict["version"], verdict.get("confirmed")
    why = ""
    if not (verdict["passed"] or confirmed):
        why = f"The gate refused version {version}: {refused(verdict)}"
    elif not context["params"]["promote"]:
        why = f"Version {version} passed the gate; it stays challenger, as requested."
        if not verdict["passed"]:
            why = f"The champion was confirmed as version {confirmed}; it is not promoted, as requested."
    if why:
        context["task"].log.warning("%s", why)  # Airflow's own log line for a skipped task has no reason
        raise AirflowSkipException(why)
