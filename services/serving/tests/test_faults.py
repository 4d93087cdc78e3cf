"""What may happen to a service: swaps under load, MLflow away, changed files, kill -9, a full disk. Nothing is lost."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from phaseflow import events, registry
from phaseflow.store import Store


def sibling(name: str) -> Any:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


Load, until = sibling("load").Load, sibling("conftest").until
EXAMPLE = dict(registry.get("titanic").example)
BATCH = {"rows": [EXAMPLE | {"age": float(age)} for age in range(5)]}


def flip(file: Path) -> bytes:
    """Change one byte, and give what was there."""
    before = file.read_bytes()
    middle = len(before) // 2
    file.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
    return before


def test_swaps_under_load_drop_nothing_and_never_go_back(serve: Any, world: Any) -> None:
    service = serve().start()
    until(lambda: service.version() == "1")
    with Load(f"{service.url}/titanic/predict", EXAMPLE) as load:
        until(lambda: len(load.answers) > 200)
        world.mlflow.champion("titanic", "2")
        until(lambda: service.version() == "2")
        seen = len(load.answers)
        until(lambda: len(load.answers) > seen + 200)
    assert load.broken == []
    assert {answer.status for answer in load.answers} == {200}
    assert {answer.version for answer in load.answers} == {"1", "2"}
    first = min(answer.end for answer in load.answers if answer.version == "2")
    assert all(answer.begin < first for answer in load.answers if answer.version == "1")
    # Totals are right over the swap; the old version's bins are gone, the new one's are all there.
    for version in ("1", "2"):
        answered = sum(answer.version == version for answer in load.answers)
        assert service.metric("phaseflow_rows_total", project="titanic", version=version) == answered
    assert service.metric("phaseflow_model_swaps_total", project="titanic") == 1
    assert service.metric("phaseflow_model_info", project="titanic", version="1") == 0
    assert service.metric("phaseflow_model_info", project="titanic", version="2", alias="champion") == 1
    text = service.get("/metrics").text
    assert 'version="1"' not in "".join(
        line for line in text.splitlines() if "feature_bin" in line and "titanic" in line
    )
    assert service.metric("phaseflow_feature_bin_total", project="titanic", feature="age", version="2") == answered
    service.stop()
    logged = service.logged()
    assert sorted(logged["id"]) == sorted(load.ids)
    swap = [e for e in events.read(Store(str(service.home / "store")), "titanic") if e["type"] == "dev.phaseflow.swap"]
    assert [event["data"] for event in swap] == [{"from": "1", "to": "2", "candidate": "logistic_regression"}]


def test_mlflow_away_while_serving_and_back(serve: Any, world: Any) -> None:
    service = serve().start()
    until(lambda: service.version() == "1" and service.metric("phaseflow_registry_up") == 1)
    assert service.get("/titanic/model").json()["stale"] is False
    world.mlflow.stop()
    try:
        until(lambda: service.metric("phaseflow_registry_up") == 0)
        assert service.predict().status_code == 200
        assert service.get("/titanic/model").json()["stale"] is True
        assert service.get("/readyz").status_code == 200
        service.stop()
        service.start()  # from its cache
        said = service.predict()
        assert (said.status_code, said.json()["version"]) == (200, "1")
        assert service.get("/titanic/model").json()["stale"] is True
        assert service.predict("house_prices").status_code == 200
    finally:
        world.mlflow.start()
    world.mlflow.champion("titanic", "2")
    until(lambda: service.version() == "2")
    until(lambda: service.get("/titanic/model").json()["stale"] is False)


def test_a_changed_byte_is_not_served_and_the_old_model_stays(serve: Any, world: Any) -> None:
    service = serve().start()
    until(lambda: service.version() == "1")
    file = world.mlflow.artifact("titanic", "2")
    right = flip(file)
    try:
        world.mlflow.champion("titanic", "2")
        until(lambda: service.metric("phaseflow_model_load_failures_total", project="titanic", reason="corrupt") == 1)
        assert service.predict().json()["version"] == "1"
        assert "titanic 2 is not loaded, version 1 stays: CorruptError: model.onnx has SHA-256" in service.log
    finally:
        file.write_bytes(right)
    until(lambda: service.version() == "2")  # mended, it is taken without being told


def test_a_damaged_cache_is_fetched_again(serve: Any) -> None:
    service = serve().start()
    until(lambda: service.version() == "1")
    service.stop()
    flip(next((service.home / "serving" / "models" / "titanic").glob("1/model.onnx")))
    (service.home / "serving" / "models" / "house_prices" / "current.json").write_text("{")
    service.start()
    until(lambda: service.version() == "1" and service.version("house_prices") == "1")
    assert service.metric("phaseflow_model_load_failures_total", reason="cache") == 2
    assert service.predict().status_code == 200


def test_killed_under_load_no_answered_prediction_is_missing(serve: Any) -> None:
    service = serve(environment={"PHASEFLOW_SERVING_SHIP_SECONDS": "1"}).start()
    until(lambda: service.version() == "1")
    with Load(f"{service.url}/titanic/predict", BATCH) as load:
        for _ in range(3):
            seen = len(load.answers)
            until(lambda seen=seen: len(load.answers) > seen + 250)
            service.kill()
            service.start()
    assert load.broken != []  # it was under load when it died
    assert {answer.status for answer in load.answers} == {200}
    until(lambda: not list((service.home / "serving" / "spool").glob("*.jsonl")))
    service.stop()
    logged = service.logged()["id"].to_list()
    assert len(logged) == len(set(logged))
    assert set(load.ids) <= set(logged)
    # What died on the way was at most the requests under way.
    assert len(set(logged) - set(load.ids)) <= 3 * 6 * 5


def test_a_stop_answers_what_is_under_way_and_ships_all(serve: Any) -> None:
    service = serve(environment={"PHASEFLOW_SERVING_SHIP_SECONDS": "3600"}).start()
    until(lambda: service.version() == "1")
    with Load(f"{service.url}/titanic/predict", BATCH) as load:
        until(lambda: len(load.answers) > 200)
        service.stop()
    assert sorted(service.logged()["id"]) == sorted(load.ids)
    assert list((service.home / "serving" / "spool").iterdir()) == []


def test_a_full_disk_refuses_what_it_cannot_log_and_recovers(serve: Any) -> None:
    limited = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000,) * 2); os.execv(sys.argv[1], sys.argv[1:])"
    service = serve(
        prefix=[sys.executable, "-c", limited], environment={"PHASEFLOW_SERVING_SHIP_SECONDS": "3600"}
    ).start()
    until(lambda: service.version() == "1")
    big = {"rows": [EXAMPLE] * 1000}
    answered = [one["id"] for one in service.post("/titanic/predict", json=big).json()["predictions"]]
    refused = service.post("/titanic/predict", json=big)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.json()["error"]["problem"] == "The predictions can't be logged: No space left on device"
    assert "Free disk space" in refused.json()["error"]["fix"]
    answered += [one["id"] for one in service.predict().json()["predictions"]]  # a smaller one still fits
    assert service.metric("phaseflow_requests_total", code="503") == 1
    assert service.metric("phaseflow_rows_total", project="titanic") == service.metric("phaseflow_spool_rows") == 1001
    service.stop()
    assert service.logged()["id"].to_list() == answered


def test_feedback_becomes_live_loss_once_and_after_a_restart(serve: Any) -> None:
    service = serve().start()
    until(lambda: service.version() == "1")
    rows = [EXAMPLE, EXAMPLE | {"sex": "female", "title": "Mrs", "pclass": "1"}, EXAMPLE | {"age": 60.0}]
    said = service.post("/titanic/predict", json={"rows": rows}).json()["predictions"]
    wrong = [str(1 - int(one["label"])) for one in said]
    truths = [
        {"id": said[0]["id"], "truth": said[0]["label"], "group": "0a" * 32},
        {"id": said[1]["id"], "truth": wrong[1]},
        {"id": said[2]["id"], "truth": int(wrong[2])},
        {"id": "unheard-of", "truth": "1"},
    ]
    for _ in range(2):  # a client that tells the truth twice changes nothing
        assert service.post("/titanic/feedback", json={"truths": truths}).json() == {"accepted": 4}
        told = {"project": "titanic", "version": "1", "loss": "error"}
        assert service.metric("phaseflow_live_loss_total", slice="all", value="all", **told) == 2
        assert service.metric("phaseflow_live_loss_rows_total", slice="all", value="all", **told) == 3
        assert service.metric("phaseflow_live_loss_total", slice="sex", value="male", **told) == 1
        assert service.metric("phaseflow_live_loss_rows_total", slice="sex", value="male", **told) == 2
        assert service.metric("phaseflow_live_loss_total", slice="sex", value="female", **told) == 1
        assert service.metric("phaseflow_feedback_total", project="titanic", version="1") == 3
    house = service.predict("house_prices").json()["predictions"][0]
    service.post("/house_prices/feedback", json={"truths": [{"id": house["id"], "truth": house["value"] + 10}]})
    for loss, expected in (("absolute", 10), ("squared", 100)):
        found = service.metric("phaseflow_live_loss_total", project="house_prices", loss=loss, slice="all")
        assert found == pytest.approx(expected)
    waiting = [one["id"] for one in service.post("/titanic/predict", json=BATCH).json()["predictions"]]
    service.kill()
    service.start()

    def late() -> bool:
        """The truth of an earlier process's answer; it counts as soon as that is remembered."""
        service.post("/titanic/feedback", json={"truths": [{"id": waiting[0], "truth": "1"}, truths[0]]})
        return bool(service.metric("phaseflow_live_loss_rows_total", project="titanic", version="1", slice="all") > 0)

    until(late)
    assert service.metric("phaseflow_live_loss_rows_total", project="titanic", version="1", slice="all") == 1
    service.stop()
    logged = service.logged("feedback")
    assert {"unheard-of", waiting[0], *(one["id"] for one in said)} == set(logged["id"])
    assert set(logged["truth"]) == {"0", "1"}
    groups = set(logged.select("id", "group").rows())
    assert groups == {(said[0]["id"], "0a" * 32), *((name, "") for name in set(logged["id"]) - {said[0]["id"]})}


def test_metrics_count_every_row_in_its_bin(serve: Any) -> None:
    service = serve().start()
    until(lambda: service.version() == "1" and service.version("house_prices") == "1")
    manifest = json.loads((service.home / "serving" / "models" / "titanic" / "1" / "model.json").read_text())
    labels = {bins["feature"]: len(bins["shares"]) for bins in manifest["reference"]}
    series = [
        line for line in service.get("/metrics").text.splitlines() if line.startswith("phaseflow_feature_bin_total")
    ]
    for feature, count in labels.items():  # all bins are there before the first request
        mine = [s for s in series if f'feature="{feature}"' in s and 'project="titanic"' in s]
        assert len(mine) == count
        assert service.metric("phaseflow_feature_bin_reference", project="titanic", feature=feature) == pytest.approx(1)
    rows = [EXAMPLE | {"age": None}, EXAMPLE | {"age": None, "sex": "female"}, EXAMPLE]
    for row in rows:
        assert service.post("/titanic/predict", json=row).status_code == 200
    for feature in labels:
        assert service.metric("phaseflow_feature_bin_total", project="titanic", feature=feature) == 3
    assert service.metric("phaseflow_feature_bin_total", project="titanic", feature="age", bin="(missing)") == 2
    assert service.metric("phaseflow_feature_bin_total", project="titanic", feature="sex", bin="female") == 1
    assert service.predict(age="old").status_code == 422
    assert service.metric("phaseflow_requests_total", project="titanic", route="predict", code="200") == 3
    assert service.metric("phaseflow_requests_total", project="titanic", route="predict", code="422") == 1
    assert service.metric("phaseflow_request_duration_seconds_count", project="titanic", route="predict") == 4
    assert service.metric("phaseflow_rows_total", project="titanic", version="1") == 3
    assert service.metric("phaseflow_model_metric", project="titanic", metric="roc_auc") == 0.5
    assert service.metric("phaseflow_drift_threshold", project="titanic") == registry.get("titanic").drift.psi
    assert (
        service.metric("phaseflow_drift_minimum_rows", project="titanic") == registry.get("titanic").drift.minimum_rows
    )
    assert service.metric("phaseflow_model_created_timestamp_seconds", project="titanic") > 1.7e9
    until(lambda: service.metric("phaseflow_spool_rows") == 0)


def test_the_log_holds_what_was_sent_and_said(serve: Any, world: Any) -> None:
    service = serve().start()
    until(lambda: service.version() == "1" and service.version("house_prices") == "1")
    for name in ("titanic", "house_prices"):
        project, rows = registry.get(name), world.rows[name][:50]
        said = service.post(f"/{name}/predict", json={"rows": rows}).json()["predictions"]
        until(lambda name=name: service.logged(project=name).height == 50)
        logged = service.logged(project=name)
        features = project.schema.feature_names
        assert logged.columns == ["id", "time", "version", *features, "prediction", "score", "latency_ms"]
        assert logged.select(features).to_dicts() == rows
        assert logged["id"].to_list() == [one["id"] for one in said]
        assert logged["version"].unique().to_list() == ["1"]
        if project.task == "classification":
            assert logged["prediction"].to_list() == [one["label"] for one in said]
            assert logged["score"].to_list() == [one["probabilities"]["1"] for one in said]
        else:
            assert logged["prediction"].to_list() == [one["value"] for one in said]
            assert logged["score"].null_count() == 50


def test_without_a_free_descriptor_the_loops_wait_and_then_go_on(serve: Any, world: Any) -> None:
    service = serve(environment={"PHASEFLOW_SERVING_SHIP_SECONDS": "1"}).start()
    until(lambda: service.version() == "1")
    with httpx.Client(base_url=service.url) as client:
        assert client.post("/titanic/predict", json=EXAMPLE).status_code == 200
        until(lambda: client.get("/metrics").text.count("phaseflow_spool_rows 0.0") == 1)
        pid = service.process.pid
        _, hard = limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        # 0, 1 and 2 are always open, so nothing new can be opened below 3; open descriptors above the limit stay usable.
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
        world.mlflow.champion("titanic", "2")
        until(lambda: "the loop ship failed" in service.log and "the loop follow failed" in service.log)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert client.post("/titanic/predict", json=EXAMPLE).status_code == 200
    until(lambda: service.version() == "2")
    until(lambda: service.logged().height == 2)
    assert service.get("/readyz").status_code == service.get("/healthz").status_code == 200


def test_a_flood_of_half_requests_stops_neither_clients_nor_loops(serve: Any, world: Any) -> None:
    limited = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400)); os.execv(sys.argv[1], sys.argv[1:])"
    service = serve(prefix=[sys.executable, "-c", limited], environment={"PHASEFLOW_SERVING_SHIP_SECONDS": "1"}).start()
    until(lambda: service.version() == "1")
    with contextlib.ExitStack() as stack:
        for _ in range(450):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=10))
            half.sendall(b"POST /titanic/predict HTTP/1.1\r\nhost: ")
        assert service.predict().status_code == 200
        assert len(os.listdir(f"/proc/{service.process.pid}/fd")) < 300  # noqa: PTH208  # their number
        world.mlflow.champion("titanic", "2")
        until(lambda: service.version() == "2")
        until(lambda: service.logged().height == 1)
    assert "Too many open files" not in service.log


def test_with_a_broken_stderr_it_follows_and_ships(serve: Any, world: Any) -> None:
    """As when the supervisor is killed, to whom the messages go."""
    broken = "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1); os.dup2(w, 2); os.execv(sys.argv[1], sys.argv[1:])"
    service = serve(prefix=[sys.executable, "-c", broken], environment={"PHASEFLOW_SERVING_SHIP_SECONDS": "1"}).start()
    until(lambda: service.version() == "1")
    store = service.home / "store"
    aside = store.rename(service.home / "aside") if store.exists() else None
    store.write_text("a file where the folder should be")
    assert service.predict().status_code == 200
    for version in ("2", "1", "2"):  # each is a message, and cannot be written down as an event
        world.mlflow.champion("titanic", version)
        until(lambda version=version: service.version() == version)
    store.unlink()
    if aside is not None:
        aside.rename(store)
    until(lambda: service.logged().height == 1)
    assert service.get("/readyz").json() == {"ready": True}
    assert service.log == ""
