from __future__ import annotations

from dataclasses import replace

import pytest

from services.portal import headline, model
from services.portal.parts import PARTS

UNTRAINED = model.ProjectStatus(name="titanic", title="Titanic", task="classification", phase=2, description="")
SERVED = replace(
    UNTRAINED,
    champion=model.Champion(
        version="3", candidate="random_forest", metric="roc_auc", value=0.87, created=None, stale=False
    ),
)
DRIFTED = replace(
    SERVED, psi=(model.Psi(feature="fare", value=0.5),), psi_threshold=0.25, window_rows=300.0, minimum_rows=200.0
)
RUNNING = model.DagRun(state="running", seconds=None, succeeded=None)
FAILED = model.DagRun(state="failed", seconds=3.0, succeeded=None)


def part(name: str, state: str) -> model.Part:
    return model.Part(name=name, title=name.title(), purpose="", url="", state=state, optional=name == "grafana")


UP = tuple(part(name, "away" if name == "grafana" else "up") for name, *_ in PARTS)


@pytest.mark.parametrize(
    ("projects", "parts", "sentence", "tone"),
    [
        ((SERVED,), UP, "All quiet: 1 model served, no alert firing", "ok"),
        ((UNTRAINED,), UP, "Everything is up, but no model is served yet: run `make demo`", ""),
        ((DRIFTED,), UP, "Titanic has drifted (fare)", "warn"),
        ((replace(DRIFTED, dag=RUNNING),), UP, "Titanic has drifted (fare); retraining is running", "active"),
        ((replace(DRIFTED, window_rows=100.0),), UP, "All quiet: 1 model served, no alert firing", "ok"),
        ((replace(SERVED, dag=RUNNING),), UP, "Titanic: the DAG is running", "active"),
        ((DRIFTED,), (part("mlflow", "away"), *UP), "Mlflow is unavailable", "bad"),
        ((replace(SERVED, dag=FAILED),), UP, "Titanic: the last DAG run failed", "bad"),
        ((SERVED, replace(UNTRAINED, problem="it fails")), UP, "These declarations can't be read: titanic", "bad"),
        ((SERVED,), (part("monitor", "degraded"), *UP), "Not healthy: Monitor (degraded)", "warn"),
        ((SERVED,), (part("monitor", "slow"), *UP), "Not healthy: Monitor (slow)", "warn"),
        (
            (replace(UNTRAINED, responds=False),),
            UP,
            "The served models are unknown: the service does not respond",
            "warn",
        ),
        (
            tuple(replace(DRIFTED, title=f"Project {n}") for n in range(6)),
            UP,
            "Project 0 has drifted (fare), Project 1 has drifted (fare), Project 2 has drifted (fare) and 3 more",
            "warn",
        ),
        (
            (UNTRAINED,),
            tuple(replace(p, state="away") for p in UP),
            "The platform is down: start it with `bin/phaseflow up`",
            "bad",
        ),
    ],
)
def test_the_headline_is_the_worst_problem(
    projects: tuple[model.ProjectStatus, ...], parts: tuple[model.Part, ...], sentence: str, tone: str
) -> None:
    assert headline.headline(projects, (), parts) == (sentence, tone)


def alert(severity: str = "warning", state: str = "firing", *, retrains: bool = False) -> model.Alert:
    return model.Alert(
        name="PredictionDrift",
        state=state,
        project="titanic",
        severity=severity,
        summary="",
        since=None,
        runbook="",
        retrains=retrains,
    )


@pytest.mark.parametrize(
    ("projects", "alerts", "sentence", "tone"),
    [
        ((SERVED,), (alert("info"),), "All quiet: 1 model served, no alert firing", "ok"),
        ((SERVED,), (alert(),), "1 alert firing", "bad"),
        ((SERVED,), (alert(), alert("critical")), "2 alerts firing", "bad"),
        ((SERVED,), (alert(state="pending"),), "1 alert pending", "warn"),
        ((SERVED,), (alert("info", "pending"),), "All quiet: 1 model served, no alert firing", "ok"),
        ((DRIFTED,), (alert(retrains=True),), "Titanic has drifted (fare)", "warn"),
        ((DRIFTED,), (alert(retrains=True), alert("critical")), "2 alerts firing", "bad"),
        ((SERVED,), None, "1 model served, but the alerts are unknown", "warn"),
    ],
)
def test_the_headline_counts_alerts(
    projects: tuple[model.ProjectStatus, ...], alerts: tuple[model.Alert, ...] | None, sentence: str, tone: str
) -> None:
    assert headline.headline(projects, alerts, UP) == (sentence, tone)


def test_the_tone_of_an_alert() -> None:
    assert (alert("info").tone, alert().tone, alert(state="pending").tone) == ("active", "bad", "warn")


QUIET = replace(SERVED, alert="quiet")


@pytest.mark.parametrize(
    ("project", "text", "tone"),
    [
        (QUIET, "quiet", "ok"),
        (SERVED, "alerts unknown", ""),
        (replace(UNTRAINED, alert="quiet"), "not trained yet", ""),
        (replace(UNTRAINED, alert="quiet", responds=False), "model unknown", ""),
        (replace(UNTRAINED, alert="quiet", verdict="refused"), "refused by the gate", "warn"),
        (replace(UNTRAINED, alert="quiet", verdict="promoted"), "not loaded", "warn"),
        (replace(UNTRAINED, dag=RUNNING), "DAG running", "active"),
        (replace(UNTRAINED, problem="it fails"), "unreadable", "bad"),
        (replace(QUIET, alert="pending"), "alert pending", "warn"),
        (replace(QUIET, alert="firing", dag=RUNNING), "alert firing", "bad"),
        (replace(QUIET, dag=FAILED), "DAG failed", "bad"),
        (replace(DRIFTED, alert="quiet"), "drifted", "warn"),
        (replace(DRIFTED, alert="quiet", dag=RUNNING), "DAG running", "active"),
    ],
)
def test_only_a_served_project_without_a_problem_is_quiet(project: model.ProjectStatus, text: str, tone: str) -> None:
    state = headline.state(project)
    assert (state.text, state.tone) == (text, tone)


def test_an_alert_does_not_hide_that_a_project_has_no_model() -> None:
    firing = replace(UNTRAINED, alert="firing")
    assert firing.untrained
    assert (
        headline.state(replace(firing, responds=False)).hint
        == "The served model is unknown: the service is unavailable"
    )
    assert not replace(firing, dag=RUNNING).untrained
    assert not replace(firing, verdict="refused").untrained
