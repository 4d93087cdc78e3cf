"""Traffic against a real HTTP server that responds, fails or drops requests as configured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cli import traffic
from phaseflow import discovery
from phaseflow.settings import ROOT, from_environment
from phaseflow.store import Store
from phaseflow.testing import Request, Response, http_server
from phaseflow.toolkit import source
from phaseflow.toolkit.holdout import in_holdout, train_holdout_split

RUN = [sys.executable, "-m", "cli.traffic", "titanic"]


@dataclass
class ServerState:
    """The requests that the test server received, and which ones it fails or drops."""

    url: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    labels: list[dict[str, Any]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    authorizations: set[tuple[str, str | None]] = field(default_factory=set)
    fail_every: int = 0
    drop_every: int = 0


@pytest.fixture
def server() -> Iterator[ServerState]:
    state = ServerState()

    def respond(request: Request) -> Response | None:
        state.connections.add(request.client)
        state.authorizations.add((request.path.rpartition("/")[2], request.headers.get("authorization")))
        if request.path.endswith("/feedback"):
            state.labels += request.json["labels"]
            return Response({"accepted": len(request.json["labels"])})
        state.rows.append(request.json)
        number = len(state.rows)
        if state.drop_every and number % state.drop_every == 0:
            return None
        if state.fail_every and number % state.fail_every == 0:
            return Response({"error": "away"}, 503)
        version = "1" if number <= 50 else "2"
        return Response({"version": version, "predictions": [{"id": f"r-{number}", "label": "0"}]})

    with http_server(respond, keep_alive=True) as state.url:
        yield state


def environment(server: ServerState, tmp_path: object) -> dict[str, str]:
    return os.environ | {
        "PHASEFLOW_SERVING_URL": server.url,
        "PHASEFLOW_HOME": str(tmp_path),
        "PHASEFLOW_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }


def send_traffic(server: ServerState, tmp_path: object, *arguments: str) -> tuple[int, dict[str, Any]]:
    completed = subprocess.run(
        [*RUN, *arguments], env=environment(server, tmp_path), capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert completed.stdout, completed.stderr
    return completed.returncode, json.loads(completed.stdout.splitlines()[-1])


def test_rows_and_their_labels_arrive_over_few_connections(server: ServerState, tmp_path: object) -> None:
    code, summary = send_traffic(server, tmp_path, "--rows", "100", "--rate", "0", "--feedback")
    assert code == 0
    assert summary["done"]
    assert (summary["sent"], summary["failed"], summary["labels"]) == (100, 0, 100)
    assert summary["versions"] == {"1": 50, "2": 50}
    assert 0 < summary["p50_ms"] <= summary["p99_ms"]
    assert "survived" not in server.rows[0]
    assert set(server.rows[0]) >= {"age", "sex", "fare"}
    assert {label["id"] for label in server.labels} == {f"r-{number}" for number in range(1, 101)}
    assert {label["label"] for label in server.labels} == {"0", "1"}
    holdout_flags = [in_holdout(label["group"], 0.25) for label in server.labels]
    assert 10 <= sum(holdout_flags) <= 40  # rows of both sides of the split are sent
    assert len(server.connections) <= 8
    assert server.authorizations == {("predict", None), ("feedback", None)}


def test_the_label_is_sent_with_the_clients_token(server: ServerState, tmp_path: Path) -> None:
    tokens = tmp_path / "secrets" / "feedback_tokens"
    tokens.parent.mkdir()
    tokens.write_text("shop 0123456789abcdef-shop\ndefault 0123456789abcdef-default\n")
    code, _ = send_traffic(server, tmp_path, "--rows", "20", "--rate", "0", "--feedback")
    assert code == 0
    assert server.authorizations == {("predict", None), ("feedback", "Bearer 0123456789abcdef-default")}
    tokens.write_text("default short\n")
    code, summary = send_traffic(server, tmp_path, "--rows", "20", "--rate", "0", "--feedback")
    assert (code, summary["fix"]) == (2, "Write a line `name token` for each client")
    assert "short" not in summary["problem"]


def test_a_seed_gives_the_same_rows_and_drift_different_rows(server: ServerState, tmp_path: object) -> None:
    key = lambda row: json.dumps(row, sort_keys=True)  # noqa: E731  # local to this test
    samples = []
    for extra in ([], [], ["--drift"]):
        server.rows.clear()
        send_traffic(server, tmp_path, "--rows", "60", "--rate", "0", "--seed", "5", *extra)
        samples.append(sorted(server.rows, key=key))
    assert samples[0] == samples[1]
    ages = [[row["age"] for row in rows if row["age"] is not None] for rows in samples]
    assert sum(ages[2]) / len(ages[2]) > sum(ages[0]) / len(ages[0]) + 10


def test_failed_and_dropped_requests_are_counted_and_never_repeated(server: ServerState, tmp_path: object) -> None:
    server.fail_every, server.drop_every = 10, 25
    code, summary = send_traffic(server, tmp_path, "--rows", "100", "--rate", "0")
    assert code == 1
    assert summary["sent"] == len(server.rows) == 100
    assert summary["failed"] == 12  # ten failed and four dropped, of which two are both
    assert any("503" in text for text in summary["errors"])


def test_it_keeps_the_rate_and_stops_on_sigterm(server: ServerState, tmp_path: object) -> None:
    process = subprocess.Popen(
        [*RUN, "--rate", "40", "--feedback"],
        env=environment(server, tmp_path),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout
    lines = [json.loads(process.stdout.readline()) for _ in range(3)]
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=20)
    summary = json.loads(rest.splitlines()[-1])
    assert process.returncode == 0
    assert summary["done"]
    assert summary["sent"] == len(server.rows) == summary["labels"] == len(server.labels)
    first, last = lines[0], lines[2]
    rate = (last["sent"] - first["sent"]) / (last["seconds"] - first["seconds"])
    assert 20 <= rate <= 60  # after a pause of the machine it catches up


def test_an_unknown_project_is_an_error(server: ServerState, tmp_path: object) -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "cli.traffic", "nowhere"],
        env=environment(server, tmp_path),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert completed.returncode == 2
    assert "There is no project 'nowhere'" in json.loads(completed.stdout)["problem"]


def test_only_holdout_rows_of_a_history_are_sent(tmp_path: Path) -> None:
    project = discovery.get("recommender")
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})
    data = source.grouped_rows(source.load(project, settings, Store(settings.store)), project, settings)
    names = [column.name for column in project.schema.columns]
    train, holdout = (set(side.select(names).rows()) for side in train_holdout_split(data, project))
    batches = list(traffic.rows(project, settings, count=600, drift=False, seed=1))
    sent = {row for batch in batches for row in batch.select(names).rows()}
    assert sent <= holdout
    assert not sent & train
    assert sum(batch.height for batch in batches) == 600
    assert set(pl.concat(batches)["_group"]) == {""}  # a history is split by time, not by group
