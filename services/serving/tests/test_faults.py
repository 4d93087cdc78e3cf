"""Faults: swaps under load, unreachable MLflow, changed files, kill -9, a full disk. No data may be lost."""

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

from phaseflow import discovery, events
from phaseflow.store import Store


def sibling(name: str) -> Any:
    """A module of this folder, which is not a package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


Load, until = sibling("load").Load, sibling("conftest").until
EXAMPLE = dict(discovery.get("titanic").example)
BATCH = {"rows": [EXAMPLE | {"age": float(age)} for age in range(5)]}


def flip(file: Path) -> bytes:
    """Change one byte of the file; return the original content."""
    before = file.read_bytes()
    middle = len(before) // 2
    file.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
    return before


def test_swaps_under_load_drop_nothing_and_never_go_back(serve: Any, registry: Any) -> None:
    service = serve().start()
    until(lambda: service.version() == "1")
    with Load(f"{service.url}/titanic/predict", EXAMPLE) as load:
        until(lambda: len(load.responses) > 200)
        registry.mlflow.champion("titanic", "2")
        until(lambda: service.version() == "2")
        count = len(load.responses)
        until(lambda: len(load.responses) > count + 200)
    assert load.broken == []
    assert {response.status for response in load.responses} == {200}
    assert {response.version for response in load.responses} == {"1", "2"}
    first = min(response.end for response in load.responses if response.version == "2")
    assert all(response.begin < first for response in load.responses if response.version == "1")
    # Totals are correct across the swap; the bins of the old version are removed, those of the new version complete.
    for version in ("1", "2"):
        total = sum(response.version == version for response in load.responses)
        assert service.metric("phaseflow_rows_total", project="titanic", version=version) == total
    assert service.metric("phaseflow_model_swaps_total", project="titanic") == 1
    assert service.metric("phaseflow_model_info", project="titanic", version="1") == 0
    assert service.metric("phaseflow_model_info", project="titanic", version="2", alias="champion") == 1
    text = service.get("/metrics").text
    assert 'version="1"' not in "".join(
        line for line in text.splitlines() if "feature_bin" in line and "titanic" in line
    )
    assert service.metric("phaseflow_feature_bin_total", project="titanic", feature="age", version="2") == total
    service.stop()
    logged = service.logged()
    assert sorted(logged["id"]) == sorted(load.ids)
    swap = [e for e in events.read(Store(str(service.home / "store")), "titanic") if e["type"] == "dev.phaseflow.swap"]
    assert [event["data"] for event in swap] == [{"from": "1", "to": "2", "candidate": "logistic_regression"}]


def test_mlflow_away_while_serving_and_back(serve: Any, registry: Any) -> None:
    service = serve().start()
    until(lambda: service.version() == "1" and service.metric("phaseflow_registry_up") == 1)
    assert service.get("/titanic/model").json()["stale"] is False
    registry.mlflow.stop()
    try:
        until(lambda: service.metric("phaseflow_registry_up") == 0)
        assert service.predict().status_code == 200
        assert service.get("/titanic/model").json()["stale"] is True
        assert service.get("/readyz").status_code == 200
        service.stop()
        service.start()  # from its cache
        response = service.predict()
        assert (response.status_code, response.json()["version"]) == (200, "1")
        assert service.get("/titanic/model").json()["stale"] is True
        assert service.predict("house_prices").status_code == 200
    finally:
        registry.mlflow.start()
    registry.mlflow.champion("titanic", "2")
    until(lambda: service.version() == "2")
    until(lambda: service.get("/titanic/model").json()["stale"] is False)


def test_a_changed_byte_is_not_served_and_the_old_model_stays(serve: Any, registry: Any) -> None:
    service = serve().start()
    until(lambda: service.version() == "1")
    file = registry.mlflow.artifact("titanic", "2")
    right = flip(file)
    try:
        registry.mlflow.champion("titanic", "2")
        until(lambda: service.metric("phaseflow_model_load_failures_total", project="titanic", reason="corrupt") == 1)
        assert service.predict().json()["version"] == "1"
        assert "titanic 2 is not loaded, version 1 stays: CorruptError: model.onnx has SHA-256" in service.log
    finally:
        file.write_bytes(right)
    until(lambda: service.version() == "2")  # once repaired, it is loaded without a restart


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
            count = len(load.responses)
            until(lambda count=count: len(load.responses) > count + 250)
            service.kill()
            service.start()
    assert load.broken != []  # the service was killed under load
    assert {response.status for response in load.responses} == {200}
    until(lambda: not list((service.home / "serving" / "spool").glob("*.jsonl")))
    service.stop()
    logged = service.logged()["id"].to_list()
    assert len(logged) == len(set(logged))
    assert set(load.ids) <= set(logged)
    # At most the requests in flight are logged without a response.
    assert len(set(logged) - set(load.ids)) <= 3 * 6 * 5


def test_a_stop_answers_what_is_under_way_and_ships_all(serve: Any) -> None:
    service = serve(environment={"PHASEFLOW_SERVING_SHIP_SECONDS": "3600"}).start()
    until(lambda: service.version() == "1")
    with Load(f"{service.url}/titanic/predict", BATCH) as load:
        until(lambda: len(load.responses) > 200)
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
    ids = [prediction["id"] for prediction in service.post("/titanic/predict", json=big).json()["predictions"]]
    refused = service.post("/titanic/predict", json=big)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.json()["error"]["problem"] == "The predictions can't be logged: No space left on device"
    assert "Free disk space" in refused.json()["error"]["fix"]
    ids += [prediction["id"] for prediction in service.predict().json()["predictions"]]  # a smaller request still fits
    assert service.metric("phaseflow_requests_total", code="503") == 1
    assert service.metric("phaseflow_rows_total", project="titanic") == service.metric("phaseflow_spool_rows") == 1001
    service.stop()
    assert service.logged()["id"].to_list() == ids


def test_feedback_becomes_live_loss_once_and_after_a_restart(serve: Any) -> None:
    service = serve().start()
    until(lambda: service.version() == "1")
    rows = [EXAMPLE, EXAMPLE | {"sex": "female", "title": "Mrs", "pclass": "1"}, EXAMPLE | {"age": 60.0}]
    predictions = service.post("/titanic/predict", json={"rows": rows}).json()["predictions"]
    wrong = [str(1 - int(prediction["label"])) for prediction in predictions]
    labels = [
        {"id": predictions[0]["id"], "label": predictions[0]["label"], "group": "0a" * 32},
        {"id": predictions[1]["id"], "label": wrong[1]},
        {"id": predictions[2]["id"], "label": int(wrong[2])},
        {"id": "unheard-of", "label": "1"},
    ]
    for _ in range(2):  # sending a label twice changes nothing
        assert service.post("/titanic/feedback", json={"labels": labels}).json() == {"accepted": 4}
        metric_labels = {"project": "titanic", "version": "1", "loss": "error"}
        assert service.metric("phaseflow_live_loss_total", slice="all", value="all", **metric_labels) == 2
        assert service.metric("phaseflow_live_loss_rows_total", slice="all", value="all", **metric_labels) == 3
        assert service.metric("phaseflow_live_loss_total", slice="sex", value="male", **metric_labels) == 1
        assert service.metric("phaseflow_live_loss_rows_total", slice="sex", value="male", **metric_labels) == 2
        assert service.metric("phaseflow_live_loss_total", slice="sex", value="female", **metric_labels) == 1
        assert service.metric("phaseflow_feedback_total", project="titanic", version="1") == 3
    house = service.predict("house_prices").json()["predictions"][0]
    service.post("/house_prices/feedback", json={"labels": [{"id": house["id"], "label": house["value"] + 10}]})
    for loss, expected in (("absolute", 10), ("squared", 100)):
        total = service.metric("phaseflow_live_loss_total", project="house_prices", loss=loss, slice="all")
        assert total == pytest.approx(expected)
    waiting = [prediction["id"] for prediction in service.post("/titanic/predict", json=BATCH).json()["predictions"]]
    service.kill()
    service.start()

    def late() -> bool:
        """Send a label of an earlier process's prediction; it counts once that prediction is restored."""
        service.post("/titanic/feedback", json={"labels": [{"id": waiting[0], "label": "1"}, labels[0]]})
        return bool(service.metric("phaseflow_live_loss_rows_total", project="titanic", version="1", slice="all") > 0)

    until(late)
    assert service.metric("phaseflow_live_loss_rows_total", project="titanic", version="1", slice="all") == 1
    service.stop()
    logged = service.logged("feedback")
    assert {"unheard-of", waiting[0], *(prediction["id"] for prediction in predictions)} == set(logged["id"])
    assert set(logged["label"]) == {"0", "1"}
    groups = set(logged.select("id", "group").rows())
    assert groups == {
        (predictions[0]["id"], "0a" * 32),
        *((name, "") for name in set(logged["id"]) - {predictions[0]["id"]}),
    }


def test_metrics_count_every_row_in_its_bin(serve: Any) -> None:
    service = serve().start()
    until(lambda: service.version() == "1" and service.version("house_prices") == "1")
    manifest = json.loads((service.home / "serving" / "models" / "titanic" / "1" / "model.json").read_text())
    labels = {bins["feature"]: len(bins["shares"]) for bins in manifest["reference"]}
    series = [
        line for line in service.get("/metrics").text.splitlines() if line.startswith("phaseflow_feature_bin_total")
    ]
    for feature, count in labels.items():  # all bins exist before the first request
        feature_series = [s for s in series if f'feature="{feature}"' in s and 'project="titanic"' in s]
        assert len(feature_series) == count
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
    assert service.metric("phaseflow_drift_threshold", project="titanic") == discovery.get("titanic").drift.psi
    assert (
        service.metric("phaseflow_drift_minimum_rows", project="titanic") == discovery.get("titanic").drift.minimum_rows
    )
    assert service.metric("phaseflow_model_created_timestamp_seconds", project="titanic") > 1.7e9
    until(lambda: service.metric("phaseflow_spool_rows") == 0)


def test_the_log_holds_rows_and_predictions(serve: Any, registry: Any) -> None:
    service = serve().start()
    until(lambda: service.version() == "1" and service.version("house_prices") == "1")
    for name in ("titanic", "house_prices"):
        project, rows = discovery.get(name), registry.rows[name][:50]
        predictions = service.post(f"/{name}/predict", json={"rows": rows}).json()["predictions"]
        until(lambda name=name: service.logged(project=name).height == 50)
        logged = service.logged(project=name)
        features = project.schema.feature_names
        assert logged.columns == ["id", "time", "version", *features, "prediction", "score", "latency_ms"]
        assert logged.select(features).to_dicts() == rows
        assert logged["id"].to_list() == [prediction["id"] for prediction in predictions]
        assert logged["version"].unique().to_list() == ["1"]
        if project.task == "classification":
            assert logged["prediction"].to_list() == [prediction["label"] for prediction in predictions]
            assert logged["score"].to_list() == [prediction["probabilities"]["1"] for prediction in predictions]
        else:
            assert logged["prediction"].to_list() == [prediction["value"] for prediction in predictions]
            assert logged["score"].null_count() == 50


def test_without_a_free_descriptor_the_loops_wait_and_then_go_on(serve: Any, registry: Any) -> None:
    service = serve(environment={"PHASEFLOW_SERVING_SHIP_SECONDS": "1"}).start()
    until(lambda: service.version() == "1")
    with httpx.Client(base_url=service.url) as client:
        assert client.post("/titanic/predict", json=EXAMPLE).status_code == 200
        until(lambda: client.get("/metrics").text.count("phaseflow_spool_rows 0.0") == 1)
        pid = service.worker.pid
        _, hard = limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        # 0, 1 and 2 are always open, so nothing new can be opened below 3; open descriptors above the limit stay usable.
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
        registry.mlflow.champion("titanic", "2")
        until(lambda: "the loop ship failed" in service.log and "the loop follow failed" in service.log)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert client.post("/titanic/predict", json=EXAMPLE).status_code == 200
    until(lambda: service.version() == "2")
    until(lambda: service.logged().height == 2)
    assert service.get("/readyz").status_code == service.get("/healthz").status_code == 200


def test_a_flood_of_half_requests_stops_neither_clients_nor_loops(serve: Any, registry: Any) -> None:
    limited = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400)); os.execv(sys.argv[1], sys.argv[1:])"
    service = serve(prefix=[sys.executable, "-c", limited], environment={"PHASEFLOW_SERVING_SHIP_SECONDS": "1"}).start()
    until(lambda: service.version() == "1")
    with contextlib.ExitStack() as stack:
        for _ in range(450):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=10))
            half.sendall(b"POST /titanic/predict HTTP/1.1\r\nhost: ")
        assert service.predict().status_code == 200
        assert len(os.listdir(f"/proc/{service.worker.pid}/fd")) < 300  # noqa: PTH208  # their number
        registry.mlflow.champion("titanic", "2")
        until(lambda: service.version() == "2")
        until(lambda: service.logged().height == 1)
    assert "Too many open files" not in service.log


def test_with_a_broken_stderr_it_follows_and_ships(serve: Any, registry: Any) -> None:
    """As if the supervisor that reads the messages was killed."""
    broken = "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1); os.dup2(w, 2); os.execv(sys.argv[1], sys.argv[1:])"
    service = serve(prefix=[sys.executable, "-c", broken], environment={"PHASEFLOW_SERVING_SHIP_SECONDS": "1"}).start()
    until(lambda: service.version() == "1")
    store = service.home / "store"
    aside = store.rename(service.home / "aside") if store.exists() else None
    store.write_text("a file where the folder should be")
    assert service.predict().status_code == 200
    for version in ("2", "1", "2"):  # each swap logs a message, and its event cannot be written
        registry.mlflow.champion("titanic", version)
        until(lambda version=version: service.version() == version)
    store.unlink()
    if aside is not None:
        aside.rename(store)
    until(lambda: service.logged().height == 1)
    assert service.get("/readyz").json() == {"ready": True}
    assert service.log == ""
