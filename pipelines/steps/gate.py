"""The gate decides whether the winner may become champion.

It is a pure function of the evaluation, so every number of a verdict can be shown. Three rules support a promotion, and
every other check is a veto: docs/adr/0034-the-gate-asks-for-evidence.md. A champion that holds on changed data and that
no challenger replaces is confirmed: docs/adr/0040-a-champion-that-holds-is-confirmed.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from phaseflow.contract import Metric, Project
from phaseflow.verdict import figure

LATENCY: Final = "latency, 99th percentile of one row (ms)"
TOLERANCE: Final = 0.1
"""Relative increase allowed in one cost if the other falls; repeated latency measurements differ by as much."""
CHALLENGERS: Final = 2
"""Number of challengers on changed data that a champion must withstand before it is confirmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition of the gate."""

    check: str
    observed: float | None
    required: str
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The decision with all its checks."""

    candidate: str
    passed: bool
    checks: tuple[Check, ...]
    reason: str
    """Why the winner may become champion: `first`, `better`, `champion_failed` or `cheaper`; "" if it may not."""
    why: str
    """Explanation in one sentence, and a second one if the champion is confirmed."""
    confirmed: bool = False
    """Whether the champion stays and uses the newest rows as its reference."""

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain dictionaries for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """The reason for a promotion."""

    reason: str
    why: str
    check: Check


def judge(project: Project, evaluation: Mapping[str, Any]) -> Verdict:
    """Check the winner of an evaluation (see `pipelines.steps.evaluate`) against every condition."""
    figures, source = evaluation["candidates"][evaluation["winner"]], evaluation["source"]
    champion = evaluation.get("champion")
    case = _case(project, figures, champion, source)
    checks = [*_bounds(project, source, figures["metrics"]), case.check]
    for part in project.gate.slices:
        for value, slice_figures in figures["slices"].get(part.column, {}).items():
            if slice_figures["rows"] >= part.minimum_rows and slice_figures["value"] is not None:
                name, reached = f"{project.primary.name} where {part.column} is {value}", slice_figures["value"]
                if case.reason == "champion_failed" and slice_figures.get("at_best") is not None:
                    # A refusal would leave a failing model in service, so the slice must fail with certainty.
                    name, reached = f"{name}, at best", slice_figures["at_best"]
                checks.append(_bound(project.primary, part.threshold, reached, name))
    if champion is not None and champion["trusted"] is not None:
        checks += _trusted(project, source, champion["trusted"])
    if project.gate.calibration is not None and figures["calibration"] is not None:
        checks.append(_at_most("expected calibration error", figures["calibration"], project.gate.calibration))
    checks.append(_at_most(LATENCY, figures["latency_ms"], project.gate.latency_ms))
    checks.append(_at_most("size (MB)", figures["size_mb"], project.gate.size_mb))
    vetoes = [check for check in checks if not check.passed and check is not case.check]
    passed = bool(case.reason) and not vetoes
    why = case.why
    if vetoes:
        why = "; ".join(f"{check.check} is {figure(check.observed)}, allowed {check.required}" for check in vetoes)
        why = f"It must not be served: {why}."
    confirmed = "" if champion is None or case.reason else _confirmed(project, champion, source)
    return Verdict(
        candidate=evaluation["winner"],
        passed=passed,
        checks=tuple(checks),
        reason=case.reason if passed else "",
        why=f"{why} {confirmed}" if confirmed else why,
        confirmed=bool(confirmed),
    )


def _confirmed(project: Project, champion: Mapping[str, Any], source: str) -> str:
    """Return the sentence that explains why the champion is confirmed, or "" if it is not.

    A champion is confirmed if the monitored features have drifted from its reference by more than the project's limit,
    if it is within all bounds on the newest rows, and if this is at least the second challenger on changed data that
    could not replace it. The first one comes too early: the next challenger has many more new rows to learn from.
    """
    drift, newest = champion.get("drift"), champion["newest"]
    if drift is None or drift["psi"] <= project.drift.psi or champion["withstood"] + 1 < CHALLENGERS:
        return ""
    bounded = [metric for metric in project.metrics if metric.limit(source) is not None]
    figures = {metric.name: newest["metrics"][metric.name]["champion"] for metric in bounded}
    if not all(_within(metric, metric.limit(source), figures[metric.name]) for metric in bounded):
        return ""
    return (
        f"The champion (version {champion['version']}) is within its bounds on the newest {newest['rows']} rows, although "
        f"{drift['feature']} has drifted from its reference (PSI {figure(drift['psi'])}): it stays, and the newest rows are its "
        "reference from now on."
    )


def _case(project: Project, figures: Mapping[str, Any], champion: Mapping[str, Any] | None, source: str) -> _Case:
    """Return the first rule that supports a promotion, or the insufficient gain."""
    metric, gate = project.primary, project.gate
    name = f"gain in {metric.name} over the champion, same holdout, at least"
    if champion is None:
        check = Check(check=name, observed=None, required="no champion yet", passed=True)
        return _Case(reason="first", why="It is the first version, and within every bound.", check=check)
    gain = champion["gain"]
    required = f"> {gate.minimum_gain:g}"
    if champion["metrics"][metric.name] is None and figures["metrics"][metric.name] is not None:
        why = f"The champion has no {metric.name} on this holdout."
        allowed = "the champion has no figure on this holdout"
        return _Case(
            reason="champion_failed", why=why, check=Check(check=name, observed=None, required=allowed, passed=True)
        )
    better = gain["low"] is not None and gain["low"] > gate.minimum_gain
    check = Check(check=name, observed=gain["low"], required=required, passed=better)
    text = _gain_text(metric, gain)
    if better:
        why = f"{text}, above the required {gate.minimum_gain:g}."
        return _Case(reason="better", why=why, check=check)
    return (
        _failed(project, champion, source)
        or _cheaper(project, figures, champion)
        or _Case(
            reason="", why=f"It is not certainly better: {text}; required: above {gate.minimum_gain:g}.", check=check
        )
    )


def _gain_text(metric: Metric, gain: Mapping[str, Any]) -> str:
    if gain["low"] is None:
        return f"its gain in {metric.name} has no interval on this holdout"
    return (
        f"its gain in {metric.name} is {figure(gain['value'])}, with {1 - gain['level']:.4g} confidence at least "
        f"{figure(gain['low'])}"
    )


def _failed(project: Project, champion: Mapping[str, Any], source: str) -> _Case | None:
    """Apply the rule that replaces a champion which is beyond a bound on the newest data.

    The winner must be better there and not certainly beyond any bound. Either the champion's failure or the winner's
    gain must be statistically certain.
    """
    newest = champion["newest"]
    bounded = [(metric, bound) for metric in project.metrics if (bound := metric.limit(source)) is not None]
    figures = newest["metrics"]
    if not all(_within(metric, bound, figures[metric.name]["winner_at_best"]) for metric, bound in bounded):
        return None
    for metric, bound in bounded:
        about = figures[metric.name]
        if about["champion"] is None or about["winner"] is None or _within(metric, bound, about["champion"]):
            continue
        fails = about["champion_at_best"] is not None and not _within(metric, bound, about["champion_at_best"])
        gains = about["gain_low"] is not None and about["gain_low"] > 0
        if not (fails or gains) or not metric.better(about["winner"], about["champion"]):
            continue
        where = f"the newest {newest['rows']} rows"
        why = (
            f"The champion (version {champion['version']}) fails on {where}: its {metric.name} is "
            f"{figure(about['champion'])}, the bound {bound:g}; that of this version is {figure(about['winner'])}."
        )
        check = Check(
            check=f"{metric.name} of the champion on {where}",
            observed=about["champion"],
            required=f"it fails: {'<' if metric.direction == 'higher' else '>'} {bound:g}",
            passed=True,
        )
        return _Case(reason="champion_failed", why=why, check=check)
    return None


def _cheaper(project: Project, figures: Mapping[str, Any], champion: Mapping[str, Any]) -> _Case | None:
    """Apply the rule for a cheaper winner.

    The winner is certainly not worse by more than the margin, and saves enough latency or size without costing more of
    the other.
    """
    gate, gain = project.gate, champion["gain"]
    if not gate.margin or gain["low"] is None or gain["low"] <= -gate.margin:
        return None
    costs = {"latency": "latency_ms", "size": "size_mb"}
    shares = {name: figures[key] / champion[key] for name, key in costs.items()}
    best = min(shares, key=lambda name: shares[name])
    if shares[best] > 1 - gate.cheaper or max(shares.values()) > 1 + TOLERANCE:
        return None
    why = (
        f"It is as good as the champion within {gate.margin:g} of {project.primary.name}, and its {best} is "
        f"{1 - shares[best]:.0%} less."
    )
    name = f"{best} beside the champion's, {project.primary.name} not worse by more than {gate.margin:g}"
    check = Check(check=name, observed=shares[best], required=f"<= {1 - gate.cheaper:g}", passed=True)
    return _Case(reason="cheaper", why=why, check=check)


def _trusted(project: Project, source: str, trusted: Mapping[str, Any]) -> list[Check]:
    """Check that the winner is neither certainly beyond a bound nor certainly worse on rows with trusted labels."""
    where = f"on the {trusted['rows']} rows whose labels are trusted"
    checks = [
        _bound(metric, bound, trusted["metrics"][metric.name]["winner_at_best"], f"{metric.name} {where}, at best")
        for metric in project.metrics
        if (bound := metric.limit(source)) is not None
    ]
    high, lowest = trusted["metrics"][project.primary.name]["gain_high"], -project.gate.trusted_loss
    if high is not None:
        name = f"gain in {project.primary.name} {where}, at best"
        checks.append(Check(check=name, observed=high, required=f">= {lowest:g}", passed=high >= lowest))
    return checks


def _bounds(project: Project, source: str, figures: Mapping[str, float | None]) -> list[Check]:
    return [
        _bound(metric, bound, figures.get(metric.name), metric.name)
        for metric in project.metrics
        if (bound := metric.limit(source)) is not None
    ]


def _within(metric: Metric, bound: float | None, value: float | None) -> bool:
    if bound is None:
        return True
    return value is not None and metric.within(bound, value)


def _bound(metric: Metric, bound: float, value: float | None, name: str) -> Check:
    sign = ">=" if metric.direction == "higher" else "<="
    return Check(check=name, observed=value, required=f"{sign} {bound:g}", passed=_within(metric, bound, value))


def _at_most(name: str, value: float, allowed: float) -> Check:
    return Check(check=name, observed=value, required=f"<= {allowed:g}", passed=value <= allowed)
