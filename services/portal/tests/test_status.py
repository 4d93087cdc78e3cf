from __future__ import annotations

from dataclasses import replace

import pytest

from services.portal import status
from services.portal.prometheus import Series


def runs(**states: tuple[float, ...]) -> status.Measured:
    """What Prometheus says of the DAG titanic: a count a state, every 15 s."""
    series = {
        state: Series(
            {"dag": "titanic", "state": state},
            tuple((15.0 * n, count) for n, count in enumerate(counts)),
        )
        for state, counts in states.items()
    }
    last = [Series(s.labels, s.points[-1:]) for s in series.values()]
    now = {
        "dag_runs": [s for s in last if s.labels["state"] != "running"],
        "dag_running": [s for s in last if s.labels["state"] == "running"],
    }
    return status.Measured(now, {"dag_runs": list(series.values())}, 60.0, 0.0)


@pytest.mark.parametrize(
    ("measured", "state"),
    [
        (runs(success=(3, 3, 4, 4), failed=(1, 2, 2, 2)), "success"),
        (runs(success=(3, 4, 4, 4), failed=(1, 1, 1, 2)), "failed"),
        (runs(success=(3, 3, 3, 4), running=(0, 0, 0, 1)), "running"),
        (runs(success=(3, 3, 3, 3), failed=(1, 1, 1, 1)), "success"),
        (runs(failed=(2, 2, 2, 2)), "failed"),
    ],
)
def test_the_last_state_of_a_dag_is_the_one_that_was_counted_last(measured: status.Measured, state: str) -> None:
    found = status.dag_run("titanic", measured)
    assert found is not None
    assert found.state == state


def test_a_dag_that_never_ran_has_no_state() -> None:
    assert status.dag_run("titanic", runs(success=(0, 0))) is None
    assert status.dag_run("other", runs(success=(1, 2))) is None


QUIET = status.ProjectStatus(name="titanic", title="Titanic", task="classification", phase=2, description="")
SERVED = replace(
    QUIET,
    champion=status.Champion(
        version="3", candidate="random_forest", metric="roc_auc", value=0.87, created=None, stale=False
    ),
)
DRIFTED = replace(
    SERVED, psi=(status.Psi(feature="fare", value=0.5),), psi_threshold=0.25, window_rows=300.0, minimum_rows=200.0
)
RUNNING = status.DagRun(state="running", seconds=None, succeeded=None)


def part(name: str, state: str) -> status.Part:
    return status.Part(name=name, title=name.title(), purpose="", url="", state=state, optional=name == "grafana")


UP = tuple(part(name, "away" if name == "grafana" else "up") for name, *_ in status.PARTS)


@pytest.mark.parametrize(
    ("projects", "parts", "said", "tone"),
    [
        ((SERVED,), UP, "All quiet: 1 model served, no alert firing", "ok"),
        ((QUIET,), UP, "Everything is up and no model is served yet: run `make demo`", ""),
        ((DRIFTED,), UP, "Titanic has drifted (fare)", "warn"),
        ((replace(DRIFTED, dag=RUNNING),), UP, "Titanic has drifted (fare); retraining runs", "active"),
        ((replace(DRIFTED, window_rows=100.0),), UP, "All quiet: 1 model served, no alert firing", "ok"),
        ((replace(SERVED, dag=RUNNING),), UP, "Titanic: the DAG runs", "active"),
        ((DRIFTED,), (part("mlflow", "away"), *UP), "Mlflow is away", "bad"),
        (
            (QUIET,),
            tuple(replace(p, state="away") for p in UP),
            "The platform is down: start it with `bin/phaseflow up`",
            "bad",
        ),
    ],
)
def test_the_headline_says_what_is_worst(
    projects: tuple[status.ProjectStatus, ...], parts: tuple[status.Part, ...], said: str, tone: str
) -> None:
    assert status.headline(projects, (), parts) == (said, tone)


def test_an_alert_for_information_is_no_fire() -> None:
    info = status.Alert(
        name="PredictionDrift",
        state="firing",
        project="titanic",
        severity="info",
        summary="",
        since=None,
        runbook="",
        retrains=False,
    )
    assert status.headline((SERVED,), (info,), UP)[1] == "ok"
    assert status.headline((SERVED,), (replace(info, severity="warning"),), UP) == ("1 alert firing", "bad")
    assert (info.tone, replace(info, severity="warning").tone) == ("active", "bad")
