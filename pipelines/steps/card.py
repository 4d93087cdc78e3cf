"""The model card: data, metrics by slice, the verdict with every number, limits and provenance.

Follows Mitchell et al., Model Cards for Model Reporting (2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phaseflow.contract import Project


def number(value: float | None) -> str:
    """Format a number with four significant digits; None becomes a dash."""
    return "-" if value is None else f"{value:,.4g}"


def _twins(source: Mapping[str, Any]) -> str:
    """Return a sentence on near-duplicates of training rows; "" for snapshots of releases that did not count them."""
    count = source.get("twins")
    return "" if count is None else f" {count:,} of them are near-duplicates of training rows."


def _span(span: Sequence[float] | None) -> str:
    return f"{number(span[0])} to {number(span[1])}" if span else "-"


def confirmation(project: Project, evaluation: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """Return the card of a confirmed champion, in Markdown."""
    champion = evaluation["champion"]
    drift, newest = champion["drift"], champion["newest"]
    lines = [
        f"# {project.title}: {champion['candidate']}, confirmed",
        "",
        f"The model is that of version {champion['version']}, unchanged; its card describes the training. The live data "
        f"have changed: the PSI of {drift['feature']} against its reference was {number(drift['psi'])}. It was not replaced, "
        f"because no challenger was certainly better, and on the newest {newest['rows']} rows it is within its bounds. Drift "
        f"is now measured from the newest rows of the snapshot `{evaluation['snapshot']}`.",
        "",
        f"## Metrics on the holdout of {evaluation['rows']:,} rows",
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
    """Return the card of the winner, in Markdown."""
    winner = evaluation["candidates"][verdict["candidate"]]
    lines = [
        f"# {project.title}: {verdict['candidate']}",
        "",
        project.description,
        "",
        "## Data",
        "",
        f"Snapshot `{evaluation['snapshot']}` from the {source['source']} ({source['rows']:,} rows, of them "
        f"{source['feedback_rows']:,} from the service's log, with labels); trained on {winner['rows']:,}, "
        f"evaluated on {evaluation['rows']:,} held-out rows.{_twins(source)}",
        "",
        *_metrics(project, winner, evaluation.get("champion")),
        "",
        *_gate(verdict),
        "",
        *_selection(project, evaluation, winner),
        "",
        "## Training",
        "",
        f"Parameters: `{winner['params']}`, seed {project.seed}. "
        f"Code `{tags['phaseflow.code']}`, run `{tags['phaseflow.run']}`.",
        *(f"{key[0].upper()}{key[1:]}: {value}." for key, value in winner["notes"].items()),
        "",
        "## Limits",
        "",
        "The model is valid for data like the snapshot. Drift monitoring shows when live features differ from it. "
        "The gate ignores slices with few rows. All metrics are from one holdout.",
    ]
    return "\n".join(lines) + "\n"


def _metrics(project: Project, winner: Mapping[str, Any], champion: Mapping[str, Any] | None) -> list[str]:
    lines = [
        "## Metrics on the holdout (reported, gated)",
        "",
        "These rows were used neither for training nor for the selection of a candidate.",
        "",
        "| metric | value | 95 % interval | champion |",
        "| --- | --- | --- | --- |",
    ]
    for metric in project.metrics:
        span = winner["intervals"].get(metric.name)
        winner_value = number(winner["metrics"][metric.name])
        champion_value = number(champion["metrics"][metric.name]) if champion else "-"
        lines.append(
            f"| {metric.name} ({metric.direction} is better) | {winner_value} | {_span(span)} | {champion_value} |"
        )
    if winner["calibration"] is not None:
        lines.append(f"| expected calibration error (lower is better) | {number(winner['calibration'])} | - | - |")
    for column, values in winner["slices"].items():
        lines += ["", f"{project.primary.name} by {column}:", "", "| value | rows | metric |", "| --- | --- | --- |"]
        lines += [f"| {value} | {figures['rows']} | {number(figures['value'])} |" for value, figures in values.items()]
    return lines


def _gate(verdict: Mapping[str, Any]) -> list[str]:
    outcome = "passed" if verdict["passed"] else "did not pass"
    lines = [
        "## Gate",
        "",
        f"The model {outcome}. {verdict['why']}",
        "",
        "| check | observed | allowed | passed |",
        "| --- | --- | --- | --- |",
    ]
    for check in verdict["checks"]:
        mark = "yes" if check["passed"] else "**no**"
        lines.append(f"| {check['check']} | {number(check['observed'])} | {check['required']} | {mark} |")
    return lines


def _selection(project: Project, evaluation: Mapping[str, Any], winner: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Selection of the candidate",
        "",
        f"By {project.primary.name} inside the training rows: {winner['selection']['scheme']}. Of candidates within one "
        "standard error of the best, the first declared one is chosen. The holdout was not used for the selection.",
        "",
        "| candidate | selection | 95 % interval | holdout | 95 % interval |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, about in evaluation["candidates"].items():
        chosen_by, span = about["selection"], about["intervals"].get(project.primary.name)
        cells = [name, number(chosen_by["value"]), _span(chosen_by["interval"])]
        cells += [number(about["metrics"][project.primary.name]), _span(span)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
