"""Project -> DAG. This module is parsed every few seconds: it imports Airflow, the contract and the standard library."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow.sdk import DAG, CronTriggerTimetable, Param, TriggerRule

from dags.family import InterpreterOperator
from dags.pipelines import PipelineOperator
from dags.service import PromoteOperator, ReportOperator, VerifyOperator
from phaseflow.contract import Project
from phaseflow.settings import ROOT, Settings

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
RETRIES: Final[dict[str, Any]] = {
    "retries": 2,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=5),
}


def training(project: Project, settings: Settings) -> DAG:
    """`<project>`: extract > validate > snapshot > train > promote > verify."""
    python = str(settings.python(project.family))
    with DAG(
        project.name,
        dag_display_name=project.title,
        description=project.description,
        # A platform that starts must not train at once what it missed while it was down.
        schedule=CronTriggerTimetable(project.schedule, timezone="UTC", run_immediately=False)
        if project.schedule
        else None,
        start_date=START,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=6),
        doc_md=document(project),
        tags=tags(project),
        default_args={"owner": project.owner, **RETRIES},
        params={
            "reason": Param("", type="string", title="Why", description="Kept with the run; an alert writes its own."),
            "promote": Param(
                True, type="boolean", title="Promote", description="Off: a model that passes the gate stays challenger."
            ),
        },
        on_failure_callback=None,
    ) as dag:

        def etl(step: str, doc: str) -> InterpreterOperator:
            return InterpreterOperator(
                task_id=step,
                python=python,
                module="pipelines.etl",
                arguments=[step, "--project", project.name, "--run", "{run}"],
                execution_timeout=timedelta(hours=1),
                doc_md=doc,
            )

        extract = etl("extract", "The source as it is: mirror, cache, public address, or the project's own sample.")
        validate = etl("validate", "Rows that the schema refuses go to quarantine; too many of them fail the run.")
        snapshot = etl("snapshot", "Base rows and those whose truth came back, named by their content.")
        train = PipelineOperator(
            task_id="train",
            project=project.name,
            pipeline=str(ROOT / "pipelines" / "generated" / f"{project.name}.yaml"),
            parameters={"snapshot": "{{ ti.xcom_pull('snapshot')['snapshot'] }}", "run": "{run}"},
            pool=os.environ.get("PHASEFLOW_AIRFLOW_POOL", "default_pool"),
            doc_md="The Kubeflow pipeline: profile, train each candidate, evaluate, gate, register.",
        )
        promote = PromoteOperator(
            task_id="promote",
            python=str(settings.python("registry")),
            module="services.registry",
            arguments=["promote", "--project", project.name, "--version", "{{ ti.xcom_pull('train')['version'] }}"],
            execution_timeout=timedelta(minutes=10),
            doc_md="The alias `champion` moves, if the gate said yes.",
        )
        verify = VerifyOperator(
            task_id="verify",
            project=project.name,
            example=dict(project.example),
            trigger_rule=TriggerRule.NONE_FAILED,
            execution_timeout=timedelta(minutes=10),
            doc_md="The service answers a real request with the champion.",
        )
        extract >> validate >> snapshot >> train >> promote >> verify
    return dag


def monitor(project: Project, settings: Settings) -> DAG:
    """`<project>_monitor`: Evidently on the latest window, every few minutes."""
    seconds = settings.monitor_seconds or project.monitor_seconds
    with DAG(
        f"{project.name}_monitor",
        dag_display_name=f"{project.title}: monitor",
        description=f"Evidently's report of the latest window of {project.name}",
        schedule=timedelta(seconds=seconds),
        start_date=START,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(minutes=30),
        doc_md=f"Every {seconds} s: Evidently compares what `{project.name}` was asked with what it was trained on.",
        tags=[*tags(project), "monitor"],
        default_args={"owner": project.owner, **RETRIES},
    ) as dag:
        ReportOperator(task_id="report", project=project.name, execution_timeout=timedelta(minutes=10))
    return dag


def broken(name: str, error: Exception) -> DAG:
    """In place of a project that can't be read: a DAG that says why."""
    with DAG(
        name,
        description=f"The declaration of {name} is wrong: {error}",
        schedule=None,
        start_date=START,
        tags=["broken"],
        doc_md=f"# projects/{name}/project.py can't be read\n\n```\n{type(error).__name__}: {error}\n```",
    ) as dag:
        InterpreterOperator(
            task_id="declaration",
            python="python3",
            module="phaseflow.registry",
            arguments=[name],
            retries=0,
            doc_md=str(error),
        )
    return dag


def tags(project: Project) -> list[str]:
    """What the UI filters by."""
    return sorted({f"phase {project.phase}", project.task, project.family, *project.tags})


def document(project: Project) -> str:
    """The DAG's page, from the declaration."""
    target = project.schema.target
    columns = "\n".join(
        f"| `{c.name}` | {c.kind} | {'yes' if c.nullable else ''} | {c.description}{f' ({c.unit})' if c.unit else ''} |"
        for c in project.schema.columns
    )
    bounds = "\n".join(
        f"- {m.name} {'at least' if m.direction == 'higher' else 'at most'} {m.bound:g}"
        for m in project.metrics
        if m.bound is not None
    )
    return f"""# {project.title}

{project.description}

Trained from **{project.source.mirror or project.source.url}** and from every answered row whose truth came back. Candidates:
{", ".join(f"`{c.name}`" for c in project.candidates)}. They are compared by **{project.primary.name}** with each other and with the
champion, on the same holdout.

## Gate

{bounds}
- more than {project.gate.minimum_gain:g} better than the champion
- one row within {project.gate.latency_ms:g} ms, at most {project.gate.size_mb:g} MB

## Columns

| name | kind | may be missing | |
| --- | --- | --- | --- |
{columns}

The target is `{target.name if target else "none"}`. Code: `projects/{project.name}`.
"""
