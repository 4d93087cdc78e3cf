"""The gate: may the winner become champion? A pure function of figures, so that every number of a verdict can be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from phaseflow.contract import Metric, Project


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition of the gate."""

    check: str
    found: float | None
    allowed: str
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All conditions; `passed` where each one is."""

    candidate: str
    passed: bool
    checks: tuple[Check, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, for JSON."""
        return asdict(self)


def winner(project: Project, candidates: Mapping[str, Mapping[str, Any]]) -> str:
    """The candidate that is best in the first metric; ties go to the one declared first."""
    best = ""
    for candidate in project.candidates:
        value = candidates[candidate.name]["metrics"][project.primary.name]
        if value is None:
            continue
        if not best or project.primary.better(value, candidates[best]["metrics"][project.primary.name]):
            best = candidate.name
    return best or project.candidates[0].name


def judge(project: Project, evaluation: Mapping[str, Any]) -> Verdict:
    """Every condition on the winner of an evaluation (as `pipelines.steps.evaluate` writes it)."""
    name = winner(project, evaluation["candidates"])
    figures = evaluation["candidates"][name]
    checks = [
        _bound(metric, figures["metrics"].get(metric.name)) for metric in project.metrics if metric.bound is not None
    ]
    checks.append(_gain(project, figures, evaluation.get("champion")))
    for part in project.gate.slices:
        for value, found in figures["slices"].get(part.column, {}).items():
            if found["rows"] >= part.minimum_rows and found["value"] is not None:
                metric = Metric(name=project.primary.name, direction=project.primary.direction, bound=part.bound)
                checks.append(_bound(metric, found["value"], f"{metric.name} where {part.column} is {value}"))
    checks.append(_most("latency, 99th percentile of one row (ms)", figures["latency_ms"], project.gate.latency_ms))
    checks.append(_most("size (MB)", figures["size_mb"], project.gate.size_mb))
    return Verdict(candidate=name, passed=all(check.passed for check in checks), checks=tuple(checks))


def _bound(metric: Metric, found: float | None, name: str = "") -> Check:
    assert metric.bound is not None  # noqa: S101  # the callers pass bounded metrics only
    higher = metric.direction == "higher"
    passed = found is not None and (found >= metric.bound if higher else found <= metric.bound)
    return Check(
        check=name or metric.name, found=found, allowed=f"{'>=' if higher else '<='} {metric.bound:g}", passed=passed
    )


def _gain(project: Project, figures: Mapping[str, Any], champion: Mapping[str, Any] | None) -> Check:
    metric = project.primary
    name = f"gain in {metric.name} over the champion, same holdout"
    if champion is None:
        return Check(check=name, found=None, allowed="no champion yet", passed=True)
    mine, theirs = figures["metrics"][metric.name], champion["metrics"][metric.name]
    if theirs is None:
        return Check(check=name, found=None, allowed="the champion has no figure on this holdout", passed=True)
    if mine is None:
        return Check(check=name, found=None, allowed=f"> {project.gate.minimum_gain:g}", passed=False)
    gain = mine - theirs if metric.direction == "higher" else theirs - mine
    return Check(
        check=name, found=gain, allowed=f"> {project.gate.minimum_gain:g}", passed=gain > project.gate.minimum_gain
    )


def _most(name: str, found: float, allowed: float) -> Check:
    return Check(check=name, found=found, allowed=f"<= {allowed:g}", passed=found <= allowed)
