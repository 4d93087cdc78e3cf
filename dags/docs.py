"""The documentation of a project's DAGs, from its declaration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phaseflow import reports
from phaseflow.contract import Column, Project
from phaseflow.settings import Settings
from phaseflow.verdict import figure


def project_page(project: Project, settings: Settings) -> str:
    """The documentation of the training DAG, as Markdown."""
    gate = [f"- {metric.name} {metric.thresholds}" for metric in project.metrics if metric.thresholds]
    gate += [
        f"- the gain in {project.primary.name} over the champion on the same holdout is significantly more than "
        f"{project.gate.minimum_gain:g}, or the champion fails a bound on the newest rows and the new version doesn't"
    ]
    if project.gate.margin:
        gate += [
            f"- or {project.primary.name} is not worse by more than {project.gate.margin:g} with statistical confidence, and "
            f"latency or size is lower by {project.gate.cheaper:.0%}"
        ]
    if project.gate.calibration is not None:
        gate += [f"- expected calibration error at most {project.gate.calibration:g}"]
    gate += [
        f"- {project.primary.name} {_bound(project.primary.direction, part.threshold)} on each value of `{part.column}` with "
        f"at least {part.minimum_rows} rows"
        for part in project.gate.slices
    ]
    if project.gate.approval_hours:
        gate += [f"- a person approves the promotion within {project.gate.approval_hours:g} h"]
    gate += [f"- at most {project.gate.latency_ms:g} ms a row (99th percentile) and {project.gate.size_mb:g} MB"]
    candidates = [
        f"- `{candidate.name}`" + "".join(f", {key}={value}" for key, value in candidate.params.items())
        for candidate in project.candidates
    ]
    return "\n".join(
        [
            f"# {project.title}",
            project.description,
            "",
            "Trigger the DAG with the button above: it takes a snapshot of the data, trains every candidate, lets the gate "
            "decide, and verifies that the champion is served.",
            "",
            *_addresses(project, settings),
            "",
            f"## Data\nSource: {project.source.url or project.source.mirror}"
            + (f" ({project.source.license})" if project.source.license else ""),
            "",
            "| column | kind | missing | range | meaning |",
            "| --- | --- | --- | --- | --- |",
            *(_row(column, target=column is project.schema.target) for column in project.schema.columns),
            "",
            "## Candidates",
            *candidates,
            "",
            "## Gate",
            *gate,
        ]
    )


def monitor_page(project: Project, settings: Settings, seconds: int) -> str:
    """The documentation of the monitoring DAG, as Markdown."""
    return "\n".join(
        [
            f"# {project.title}: monitor",
            f"Every {seconds} s, Evidently compares the latest window of live rows with the champion's training data. "
            "Windows without rows are skipped.",
            "",
            *_addresses(project, settings),
        ]
    )


def verdict_page(verdict: Mapping[str, Any]) -> str:
    """The verdict of the gate as Markdown: what it decided and why, and a table of the checks."""
    rows = [
        f"| {check['check']} | {figure(check['observed'])} | {figure(check['required'])} | {'yes' if check['passed'] else 'no'} |"
        for check in verdict["checks"]
    ]
    champion = f"version {verdict['champion']}" if verdict["champion"] else "none"
    lines = [
        f"Candidate: `{verdict['candidate']}`. Champion: {champion}. {verdict.get('why') or ''}",
        "",
        "| check | observed | required | passed |",
        "| --- | --- | --- | --- |",
        *rows,
    ]
    return "\n".join(lines)


def _addresses(project: Project, settings: Settings) -> list[str]:
    page = reports.project_page(settings, project.name)
    return [
        f"[The project at a glance]({settings.page('portal')}/projects/{project.name}) · "
        f"[Model versions]({settings.page('mlflow')}/#/models/{project.name}) · "
        f"[The service's API]({settings.page('serving')}/docs) · "
        f"[Alerts]({settings.page('alertmanager')})" + (f" · [Reports over time]({page})" if page else "")
    ]


def _bound(direction: str, bound: float | None) -> str:
    return f"{'at least' if direction == 'higher' else 'at most'} {bound:g}"


def _row(column: Column, *, target: bool) -> str:
    low, high = column.minimum, column.maximum
    span = (
        f"{'' if low is None else f'{low:g}'} … {'' if high is None else f'{high:g}'}"
        if (low, high) != (None, None)
        else ""
    )
    meaning = ", ".join(
        part
        for part in ("**the target**" if target else "", column.description, column.unit and f"in {column.unit}")
        if part
    )
    cells = [
        f"`{column.name}`",
        column.kind,
        "yes" if column.nullable else "",
        ", ".join(column.allowed) or span,
        meaning,
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
