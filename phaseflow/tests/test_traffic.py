"""Traffic against a real HTTP server, which answers, refuses and drops as it is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from phaseflow import registry, traffic
from phaseflow.settings import ROOT, from_environment
from phaseflow.store import Store
from phaseflow.toolkit import source
from phaseflow.toolkit.holdout import in_holdout, sides

RUN = [sys.executable, "-m", "phaseflow.traffic", "titanic"]


@dataclass
class World:
    """What a small server saw."""

    url: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    truths: list[dict[str, Any]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    authorizations: set[tuple[str, str | None]] = field(default_factory=set)
    fail_every: int = 0
    drop_every: int = 0


@pytest.fixture
def world() -> Iterator[World]:
    seen = World()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.connections.add(self.client_address)
            seen.authorizations.add((self.path.rpartition("/")[2], self.headers["authorization"]))
            status, answer = 200, {}
            if self.path.endswith("/feedback"):
                seen.truths += body["truths"]
                answer = {"accepted": len(body["truths"])}
            else:
                seen.rows.append(body)
                number = len(seen.rows)
                if seen.drop_every and number % seen.drop_every == 0:
                    self.close_connection = True
                    return
                if seen.fail_every and number % seen.fail_every == 0:
                    status, answer = 503, {"error": "away"}
                else:
                    version = "1" if number <= 50 else "2"
                    answer = {"version": version, "predictions": [{"id": f"r-{number}", "label": "0"}]}
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seen.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield seen
    server.shutdown()
    server.server_close()


def environment(world: World, tmp_path: object) -> dict[str, str]:
    return os.environ | {
        "PHASEFLOW_SERVING_URL": world.url,
        "PHASEFLOW_HOME": str(tmp_path),
        "PHASEFLOW_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }


def play(world: World, tmp_path: object, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [*RUN, *arguments], env=environment(world, tmp_path), capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_rows_and_their_truths_arrive_over_few_connections(world: World, tmp_path: object) -> None:
    code, said = play(world, tmp_path, "--rows", "100", "--rate", "0", "--feedback")
    assert code == 0
    assert said["done"]
    assert (said["sent"], said["failed"], said["truths"]) == (100, 0, 100)
    assert said["versions"] == {"1": 50, "2": 50}
    assert 0 < said["p50_ms"] <= said["p99_ms"]
    assert "survived" not in world.rows[0]
    assert set(world.rows[0]) >= {"age", "sex", "fare"}
    assert {truth["id"] for truth in world.truths} == {f"r-{number}" for number in range(1, 101)}
    assert {truth["truth"] for truth in world.truths} == {"0", "1"}
    held = [in_holdout(truth["group"], 0.25) for truth in world.truths]
    assert 10 <= sum(held) <= 40  # rows of both sides are played
    assert len(world.connections) <= 8
    assert world.authorizations == {("predict", None), ("feedback", None)}


def test_the_truth_is_told_with_the_clients_token(world: World, tmp_path: Path) -> None:
    tokens = tmp_path / "secrets" / "feedback_tokens"
    tokens.parent.mkdir()
    tokens.write_text("shop 0123456789abcdef-shop\ndefault 0123456789abcdef-default\n")
    code, _ = play(world, tmp_path, "--rows", "20", "--rate", "0", "--feedback")
    assert code == 0
    assert world.authorizations == {("predict", None), ("feedback", "Bearer 0123456789abcdef-default")}
    tokens.write_text("default short\n")
    code, said = play(world, tmp_path, "--rows", "20", "--rate", "0", "--feedback")
    assert (code, said["fix"]) == (2, "Write a line `name token` for each client")
    assert "short" not in said["problem"]


def test_a_seed_gives_the_same_rows_and_drift_other_ones(world: World, tmp_path: object) -> None:
    key = lambda row: json.dumps(row, sort_keys=True)  # noqa: E731  # used three times, here only
    drawn = []
    for extra in ([], [], ["--drift"]):
        world.rows.clear()
        play(world, tmp_path, "--rows", "60", "--rate", "0", "--seed", "5", *extra)
        drawn.append(sorted(world.rows, key=key))
    assert drawn[0] == drawn[1]
    ages = [[row["age"] for row in rows if row["age"] is not None] for rows in drawn]
    assert sum(ages[2]) / len(ages[2]) > sum(ages[0]) / len(ages[0]) + 10


def test_what_fails_and_what_is_dropped_is_counted_and_never_sent_again(world: World, tmp_path: object) -> None:
    world.fail_every, world.drop_every = 10, 25
    code, said = play(world, tmp_path, "--rows", "100", "--rate", "0")
    assert code == 1
    assert said["sent"] == len(world.rows) == 100
    assert said["failed"] == 12  # ten and four, of which two are both
    assert any("503" in text for text in said["errors"])


def test_it_keeps_the_rate_and_stops_when_told(world: World, tmp_path: object) -> None:
    process = subprocess.Popen(
        [*RUN, "--rate", "40", "--feedback"],
        env=environment(world, tmp_path),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout
    lines = [json.loads(process.stdout.readline()) for _ in range(3)]
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=20)
    said = json.loads(rest.splitlines()[-1])
    assert process.returncode == 0
    assert said["done"]
    assert said["sent"] == len(world.rows) == said["truths"] == len(world.truths)
    between = lines[2]["sent"] - lines[1]["sent"]
    assert 20 <= between <= 45


def test_a_drifted_world_that_is_not_declared_is_an_error(world: World, tmp_path: object) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "phaseflow.traffic", "nowhere"],
        env=environment(world, tmp_path),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert process.returncode == 2
    assert "There is no project 'nowhere'" in json.loads(process.stdout)["problem"]


def test_of_a_history_only_what_no_model_was_trained_on_is_sent(tmp_path: Path) -> None:
    project = registry.get("recommender")
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})
    known = source.grouped_rows(source.load(project, settings, Store(settings.store)), project, settings)
    names = [column.name for column in project.schema.columns]
    train, holdout = (set(side.select(names).rows()) for side in sides(known, project))
    batches = list(traffic.rows(project, settings, count=600, drift=False, seed=1))
    sent = {row for batch in batches for row in batch.select(names).rows()}
    assert sent <= holdout
    assert not sent & train
    assert sum(batch.height for batch in batches) == 600
    assert set(pl.concat(batches)["_group"]) == {""}  # time decides
