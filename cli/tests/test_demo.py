"""The demo's checks before it starts, its request rate and its retrainings. `tests/` runs the whole demo."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from typer.testing import CliRunner

from cli import app
from cli.demo import run
from cli.demo.probes import Probes, TrafficMonitor
from cli.demo.recording import Recording
from cli.demo.settings import DEFAULT_PROJECT
from cli.local.this_machine import LocalPlatform
from phaseflow import discovery
from phaseflow.clients.rest import Call
from phaseflow.contract import Project
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings, from_environment


@dataclass(frozen=True, slots=True)
class Idle(LocalPlatform):
    """A platform that can't be started, and has no log yet."""

    def prepare_demo(self, project: Project) -> NoReturn:
        raise AssertionError("it must not be called")

    def log_location(self, part: str, project: str) -> str:
        return f"{part}.log"


def environment(home: Path, **variables: str) -> Settings:
    return from_environment({"PHASEFLOW_HOME": str(home), **variables})


def demo_run(home: Path, airflow: Any = None, **variables: str) -> run.DemoRun:
    """A demo whose platform has been started."""
    project, settings = discovery.get(DEFAULT_PROJECT), environment(home, **variables)
    recording = Recording(Idle(), project, quiet=True)
    recording.measured_at = float("inf")
    started = run.DemoRun(Idle(), settings, project, recording)
    started.probes = Probes(settings=settings, project=project, airflow=airflow, prometheus=airflow)
    return started


def test_a_project_without_a_drift_scenario_is_refused_before_anything_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path))
    (tmp_path / "store").mkdir()
    project = discovery.get(DEFAULT_PROJECT)
    undrifted = replace(project, drift=replace(project.drift, scenario=""))
    for platform in (LocalPlatform(), Idle()):
        with pytest.raises(PlatformError, match=r"titanic declares no drift scenario") as error:
            run.run(platform, undrifted, quiet=True)
        assert error.value.fix == "Set Drift.scenario in its project.py"
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize(
    ("latency_ms", "rate"),
    [(0.3, 40.0), (20.0, 25.0), (50.0, 800 / 60), (5000.0, 800 / 60)],
    ids=["fast: at most the maximum rate", "half a core", "enough rows for an evaluation", "slow"],
)
def test_requests_keep_half_a_core_busy_and_suffice_to_evaluate_drift(
    tmp_path: Path, latency_ms: float, rate: float
) -> None:
    started = demo_run(tmp_path, PHASEFLOW_DRIFT_WINDOW_SECONDS="60", PHASEFLOW_DRIFT_MINIMUM_ROWS="400")
    assert started.probes.rate(latency_ms) == pytest.approx(rate)


def test_an_incomplete_line_of_killed_traffic_is_ignored() -> None:
    read = threading.Event()

    def lines() -> Iterator[str]:
        yield json.dumps({"sent": 7, "failed": 0})
        yield '{"sent": 8, "fai'
        yield "\n"
        read.set()

    monitor = TrafficMonitor(lines())
    assert read.wait(5)
    assert monitor.ended() == {"sent": 7, "failed": 0}


def test_a_closed_pipe_raises_no_error_in_the_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)

    def lines() -> Iterator[str]:
        yield json.dumps({"sent": 7, "failed": 0})
        raise ValueError("I/O operation on closed file")

    assert TrafficMonitor(lines()).ended() == {"sent": 7, "failed": 0}
    assert raised == []


@pytest.mark.parametrize(("command", "expected"), [("demo", None), ("status", "7")])
def test_a_demo_ignores_the_settings_of_the_home_that_it_moves_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, expected: str | None
) -> None:
    (tmp_path / "environment").write_text("PHASEFLOW_DRIFT_MINIMUM_ROWS=7\n")
    monkeypatch.setattr(os, "environ", {"PHASEFLOW_HOME": str(tmp_path)})
    monkeypatch.setattr(run, "run", lambda platform, project, quiet: {"ok": False})
    assert CliRunner().invoke(app.app, [command]).exit_code == 1
    assert os.environ.get("PHASEFLOW_DRIFT_MINIMUM_ROWS") == expected


class Retrainings:
    """A stand-in for Airflow's client, with one more finished retraining on each call."""

    def __init__(self, *verdicts: dict[str, Any]) -> None:
        self.verdicts = dict(zip(("retrain__a", "retrain__b", "retrain__c"), verdicts, strict=False))
        self.started: list[str] = []

    def send(self, call: Call[Any]) -> Any:
        match call.path.removeprefix(f"/api/v2/dags/{DEFAULT_PROJECT}/dagRuns").split("/"):
            case [""]:
                return call.read({"dag_runs": self.runs()})
            case ["", run]:
                return call.read({"dag_run_id": run, "state": "success"})
            case ["", run, "taskInstances", "train", "xcomEntries", "return_value"]:
                return call.read({"value": self.verdicts[run]})
        raise AssertionError(call.path)

    def runs(self) -> list[dict[str, Any]]:
        if self.started != list(self.verdicts):
            self.started.append(list(self.verdicts)[len(self.started)])
        return [{"dag_run_id": run, "conf": {"reason": "drift"}} for run in [*reversed(self.started), "manual__first"]]


def verdict(version: int, *, passed: bool = False, confirmed: str | None = None) -> dict[str, Any]:
    figures = {"champion_metrics": {"roc_auc": 0.7}, "metrics": {"roc_auc": 0.8}, "champion": "1", "checks": []}
    why = "" if passed else "It is not certainly better."
    return figures | {"version": str(version), "passed": passed, "confirmed": confirmed, "why": why}


@pytest.mark.parametrize("last", [verdict(3, passed=True), verdict(3, confirmed="4")], ids=["replaced", "confirmed"])
def test_a_refused_retraining_is_followed_by_the_next(tmp_path: Path, last: dict[str, Any]) -> None:
    started = demo_run(tmp_path, Retrainings(verdict(2), last))
    started._retrainings(TrafficMonitor(iter(())))
    assert started.facts["second_verdict"] == last
    steps = started.recording.steps
    details = [step["detail"] for step in steps]
    assert details[1] == "roc_auc: 0.700 of version 1, 0.800 of the new. The champion stays: It is not certainly better"
    assert len(details) == 4
    assert all(step["ok"] for step in steps)


def test_the_demo_fails_if_the_champion_stays_after_three_retrainings(tmp_path: Path) -> None:
    started = demo_run(tmp_path, Retrainings(verdict(2), verdict(3), verdict(4)))
    with pytest.raises(PlatformError) as error:
        started._retrainings(TrafficMonitor(iter(())))
    assert error.value.problem == (
        "The gate refused the models of 3 retrainings, the last one: It is not certainly better"
    )
    assert error.value.fix == "Read airflow-scheduler.log, then `phaseflow demo titanic` again"
