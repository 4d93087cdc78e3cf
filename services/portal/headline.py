"""What the numbers mean: the state of a project, and the platform's in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.portal.model import Alert, Part, ProjectStatus, State


def state(project: ProjectStatus) -> State:
    """The state of a project; a running DAG takes precedence over drift, which it may be the response to."""
    if project.problem:
        result = State("unreadable", "bad")
    elif project.alert == "firing":
        result = State("alert firing", "bad")
    elif project.dag and project.dag.state == "running":
        result = State("DAG running", "active")
    elif project.dag and project.dag.state == "failed":
        result = State("DAG failed", "bad", "Open the last run in Airflow: the failed task's log ends with the fix")
    elif project.champion is None:
        result = _without_champion(project)
    elif project.drifted:
        result = State("drifted", "warn")
    elif project.alert == "pending":
        result = State("alert pending", "warn")
    else:
        result = State("quiet", "ok") if project.alert else State("alerts unknown", "")
    if project.champion or project.problem:
        return result
    return replace(result, hint=result.hint or _without_champion(project).hint)


def _without_champion(project: ProjectStatus) -> State:
    if not project.responds:
        return State("model unknown", "", "The served model is unknown: the service is unavailable")
    if project.verdict == "promoted":
        return State("not loaded", "warn", "The service has not loaded the promoted version: read its log")
    if project.verdict == "refused":
        return State("refused by the gate", "warn", "No version is served: the verdict lists the checks that failed")
    return State("not trained yet", "")


def headline(
    projects: Sequence[ProjectStatus], alerts: Sequence[Alert] | None, parts: Sequence[Part]
) -> tuple[str, str]:
    """A summary of the platform in one sentence, which is its worst problem if it has one, and its tone."""
    required = [part for part in parts if not part.optional]
    missing = [part for part in required if part.state == "away"]
    if missing and len(missing) == len(required):
        return "The platform is down: start it with `bin/phaseflow up`", "bad"
    if missing:
        many = f"{len(missing)} of {len(required)} parts" if len(missing) > 3 else _join([p.title for p in missing])
        return f"{many} {'is' if len(missing) == 1 else 'are'} unavailable", "bad"
    return _problem(projects, alerts, required) or _peace(projects, alerts)


def _problem(
    projects: Sequence[ProjectStatus], alerts: Sequence[Alert] | None, required: Sequence[Part]
) -> tuple[str, str] | None:
    """The worst problem of a platform whose parts run."""
    running = [p for p in projects if p.dag and p.dag.state == "running"]
    failed = [p for p in projects if p.dag and p.dag.state == "failed"]
    drifted = [p for p in projects if p.drifted]
    counted = [alert for alert in alerts or () if alert.severity != "info"]
    firing = [alert for alert in counted if alert.state == "firing"]
    unreadable = [p.name for p in projects if p.problem]
    unhealthy = [f"{p.title} ({p.detail or p.state})" for p in required if p.state != "up"]
    result = None
    if [alert for alert in firing if not (drifted and alert.retrains)]:
        result = f"{_count(firing, 'alert')} firing", "bad"
    elif drifted:
        busy = any(p in running for p in drifted)
        drift = _join([f"{p.title} has drifted ({p.psi[0].feature})" for p in drifted])
        result = f"{drift}{'; retraining is running' if busy else ''}", "active" if busy else "warn"
    elif failed:
        result = f"{_join([p.title for p in failed])}: the last DAG run failed", "bad"
    elif unreadable:
        result = f"These declarations can't be read: {_join(unreadable)}", "bad"
    elif unhealthy:
        result = f"Not healthy: {_join(unhealthy)}", "warn"
    elif running:
        result = f"{_join([p.title for p in running])}: the DAG is running", "active"
    elif counted:
        result = f"{_count(counted, 'alert')} pending", "warn"
    return result


def _peace(projects: Sequence[ProjectStatus], alerts: Sequence[Alert] | None) -> tuple[str, str]:
    served = [p for p in projects if p.champion]
    if alerts is None:
        return f"{_count(served, 'model')} served, but the alerts are unknown", "warn"
    if served:
        return f"All quiet: {_count(served, 'model')} served, no alert firing", "ok"
    if not all(p.responds for p in projects):
        return "The served models are unknown: the service does not respond", "warn"
    return "Everything is up, but no model is served yet: run `make demo`", ""


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _join(words: Sequence[str]) -> str:
    shown = [*words[:3], f"{len(words) - 3} more"] if len(words) > 4 else list(words)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
