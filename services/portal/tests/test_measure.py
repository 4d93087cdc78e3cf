from __future__ import annotations

import pytest

from services.portal.measure import Measured, dag_run
from services.portal.prometheus import Series


def runs(**states: tuple[float, ...]) -> Measured:
    """Prometheus's results for the DAG titanic: the counts per state, one every 15 s."""
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
    return Measured(now, {"dag_runs": list(series.values())}, 60.0, 0.0)


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
def test_the_last_state_of_a_dag_is_the_one_that_was_counted_last(measured: Measured, state: str) -> None:
    run = dag_run("titanic", measured)
    assert run is not None
    assert run.state == state


def test_a_dag_that_never_ran_has_no_state() -> None:
    assert dag_run("titanic", runs(success=(0, 0))) is None
    assert dag_run("other", runs(success=(1, 2))) is None
