"""The model card: data, figures by slice, the verdict with every number, limits, how it was made.

After Mitchell et al., Model Cards for Model Reporting (2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phaseflow.contract import Project


def number(value: float | None) -> str:
    """Four digits, or a dash."""
    return "-" if value is None else f"{value:,.4g}"


def _twins(source: Mapping[str, Any]) -> str:
    """How many of these resemble a row that training saw; nothing of a snapshot of an earlier release, which did not count them."""
    count = source.get("twins")
    return "" if count is None else f" {count:,} of them have a twin among the rows that it was trained on."


def _span(span: Sequence[float] | None) -> str:
    return f"{number(span[0])} to {number(span[1])}" if span else "-"


def confirmation(project: Project, evaluation: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """The card of a champion that was confirmed, in Markdown."""
    champion = evaluation["champion"]
    drift, newest = champion["drift"], champion["newest"]
    lines = [
        f"# {project.title}: {champion['candidate']}, confirmed",
        "",
        f"The model is that of version {champion['version']}, unchanged; its card says how it was trained. The rows that it meets have "
        f"changed: the PSI of {drift['feature']} against its reference was {number(drift['psi'])}. It was not replaced, "
        f"because no challenger was certainly better, and on the newest {newest['rows']} rows it is within its bounds. Drift is now "
        f"measured from the newest rows of the snapshot `{evaluation['snapshot']}`.",
        "",
        f"## Figures on the holdout of {evaluation['rows']:,} rows",
        "",
        "| metric | whole holdout | newest rows |",
        "| --- | --- | --- |",
    ]
    for metric in project.metrics:
        recent = newest["metrics"].get(metric.name, {}).get("champion")
        figures = f"{number(champion['metrics'][metric.name])} | {number(recent)}"
        lines.append(f"| {metric.name} ({metric.direction} is better) | {figures} |")
    lines += ["", f"Code `{tags['phaseflow.code']}`, run `{tags['phaseflow.run']}`."]
    return "\n".join(lines) + "\n"


def card(
    project: Project,
    evaluation: Mapping[str, Any],
    verdict: Mapping[str, Any],
    source: Mapping[str, Any],
    tags: Mapping[str, str],
) -> str:
    """The card of the winner, in Markdown."""
    winner = evaluation["candidates"][verdict["candidate"]]
    champion = evaluation.get("champion")
    lines = [
        f"# {project.title}: {verdict['candidate']}",
        "",
        project.description,
        "",
        "## Data",
        "",
        f"Snapshot `{evaluation['snapshot']}` from the {source['source']} ({source['rows']:,} rows, of them "
        f"{source['feedback_rows']:,} that the service answered and whose truth came back); trained on {winner['rows']:,}, "
        f"judged on {evaluation['rows']:,} that no training saw.{_twins(source)}",
        "",
        "## Figures on the holdout (reported, gated)",
        "",
        "No training and no choice of a candidate saw these rows.",
        "",
        "| metric | value | 95 % interval | champion |",
        "| --- | --- | --- | --- |",
    ]
    for metric in project.metrics:
        span = winner["intervals"].get(metric.name)
        theirs = number(champion["metrics"][metric.name]) if champion else "-"
        lines.append(
            f"| {metric.name} ({metric.direction} is better) | {number(winner['metrics'][metric.name])} | {_span(span)} | {theirs} |"
        )
    if winner["calibration"] is not None:
        lines.append(f"| expected calibration error (lower is better) | {number(winner['calibration'])} | - | - |")
    for column, values in winner["slices"].items():
        lines += ["", f"{project.primary.name} by {column}:", "", "| value | rows | figure |", "| --- | --- | --- |"]
        lines += [f"| {value} | {found['rows']} | {number(found['value'])} |" for value, found in values.items()]
    said = "passed" if verdict["passed"] else "did not pass"
    lines += [
        "",
        "## Gate",
        "",
        f"It {said}. {verdict['why']}",
        "",
        "| check | found | allowed | |",
        "| --- | --- | --- | --- |",
    ]
    for check in verdict["checks"]:
        mark = "yes" if check["passed"] else "**no**"
        lines.append(f"| {check['check']} | {number(check['found'])} | {check['allowed']} | {mark} |")
    lines += [
        "",
        "## How it was chosen (selection)",
        "",
        f"By {project.primary.name} inside the training rows: {winner['selection']['scheme']}. Of candidates within one standard "
        "error of the best, the first declared one is chosen. The holdout's figures decided nothing here.",
        "",
        "| candidate | selection | 95 % interval | holdout | 95 % interval |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, about in evaluation["candidates"].items():
        chosen_by, span = about["selection"], about["intervals"].get(project.primary.name)
        cells = [name, number(chosen_by["value"]), _span(chosen_by["interval"])]
        cells += [number(about["metrics"][project.primary.name]), _span(span)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "## How it was made",
        "",
        f"Parameters: `{winner['params']}`, seed {project.seed}. "
        f"Code `{tags['phaseflow.code']}`, run `{tags['phaseflow.run']}`.",
        *(f"{key[0].upper()}{key[1:]}: {value}." for key, value in winner["notes"].items()),
        "",
        "## Limits",
        "",
        "It answers for rows like those of the snapshot; what the watched features look like outside it, live drift tells. "
        "Slices with few rows were not judged. Its figures are of one holdout.",
    ]
    return "\n".join(lines) + "\n"
