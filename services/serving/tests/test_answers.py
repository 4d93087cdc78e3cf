"""Responses to valid requests."""

from __future__ import annotations

from typing import Any

import pytest

from phaseflow import discovery

PROJECTS = ("titanic", "house_prices")
EXAMPLE = dict(discovery.get("titanic").example)


@pytest.mark.parametrize("name", PROJECTS)
def test_answers_equal_the_training_sides_on_every_row(serving: Any, registry: Any, name: str) -> None:
    rows, predictions = registry.rows[name], []
    for begin in range(0, len(rows), 500):
        response = serving.post(f"/{name}/predict", json={"rows": rows[begin : begin + 500]})
        assert response.status_code == 200, response.text
        version = response.json()["version"]
        predictions += response.json()["predictions"]
    expected = registry.outputs[name][version]
    assert len(predictions) == len(rows)
    if "value" in expected:
        assert [prediction["value"] for prediction in predictions] == list(expected["value"])
    else:
        assert [prediction["label"] for prediction in predictions] == expected["label"]
        assert [list(prediction["probabilities"].values()) for prediction in predictions] == expected["probabilities"]


@pytest.mark.parametrize("name", PROJECTS)
def test_a_row_alone_is_answered_as_among_others(serving: Any, registry: Any, name: str) -> None:
    rows = registry.rows[name][:5]
    together = serving.post(f"/{name}/predict", json={"rows": rows}).json()["predictions"]
    alone = [serving.post(f"/{name}/predict", json=row).json()["predictions"][0] for row in rows]
    assert [{k: v for k, v in prediction.items() if k != "id"} for prediction in alone] == [
        {k: v for k, v in prediction.items() if k != "id"} for prediction in together
    ]


def test_what_may_be_left_out_is_missing_and_an_unknown_word_is_answered(serving: Any) -> None:
    example = dict(discovery.get("titanic").example)
    short = {key: value for key, value in example.items() if value is not None}
    assert (
        serving.post("/titanic/predict", json=short).json()["predictions"][0]["label"]
        == (serving.predict().json()["predictions"][0]["label"])
    )
    assert serving.predict(title="Admiral", embarked="Ж\u0000🚢").status_code == 200
    assert serving.predict(fare=7).status_code == 200  # an integer is a valid number


@pytest.mark.parametrize("name", PROJECTS)
def test_the_open_inference_protocol_answers_the_same(serving: Any, registry: Any, name: str) -> None:
    rows = registry.rows[name][:3]
    metadata = serving.get(f"/v2/models/{name}").json()
    assert [tensor["name"] for tensor in metadata["inputs"]] == list(discovery.get(name).schema.feature_names)
    assert serving.get(f"/v2/models/{name}/ready").json() == {"name": name, "ready": True}
    assert serving.get("/v2/health/live").status_code == serving.get("/v2/health/ready").status_code == 200
    tensors = [
        {"name": t["name"], "shape": [3], "datatype": t["datatype"], "data": [row[t["name"]] for row in rows]}
        for t in metadata["inputs"]
    ]
    response = serving.post(f"/v2/models/{name}/infer", json={"id": "mine", "inputs": tensors})
    assert response.status_code == 200, response.text
    content = response.json()
    outputs = {tensor["name"]: tensor for tensor in content["outputs"]}
    assert [tensor["name"] for tensor in metadata["outputs"]] == list(outputs)
    native = serving.post(f"/{name}/predict", json={"rows": rows}).json()
    assert (content["id"], content["model_version"]) == ("mine", native["version"])
    if name == "titanic":
        assert outputs["label"]["data"] == [prediction["label"] for prediction in native["predictions"]]
        assert outputs["probabilities"]["shape"] == [3, 2]
        flat = [share for prediction in native["predictions"] for share in prediction["probabilities"].values()]
        assert outputs["probabilities"]["data"] == flat
    else:
        assert outputs["value"]["data"] == [prediction["value"] for prediction in native["predictions"]]


def test_bentoml_answers_the_same_and_keeps_its_pages(serving: Any, registry: Any) -> None:
    rows = registry.rows["titanic"][:3]
    bentoml_response = serving.post("/predict", json={"project": "titanic", "rows": rows})
    assert bentoml_response.status_code == 200, bentoml_response.text
    predictions = serving.post("/titanic/predict", json={"rows": rows}).json()["predictions"]
    assert [p["probabilities"] for p in bentoml_response.json()["predictions"]] == [
        p["probabilities"] for p in predictions
    ]
    assert {project["project"] for project in serving.post("/projects", json={}).json()} == set(discovery.names())
    assert serving.get("/livez").status_code == 200
    refused = serving.post("/predict", json={"project": "titanic", "rows": [{"age": "x"}]})
    assert (refused.status_code, "Send" in refused.text) == (422, True)
    pickled = serving.post("/predict", content=b"\x80\x04.", headers={"content-type": "application/vnd.bentoml+pickle"})
    assert pickled.status_code == 415


def test_both_routes_write_the_log(serve: Any) -> None:
    service = serve().start()
    assert service.predict().status_code == 200
    assert service.post("/predict", json={"project": "titanic", "rows": [EXAMPLE]}).status_code == 200
    service.stop()
    assert service.logged().height == 2


def test_pages_describe_every_project(serving: Any) -> None:
    document = serving.get("/openapi.json").json()
    for name in discovery.names():
        assert {f"/{name}/predict", f"/{name}/feedback", f"/{name}/model"} <= set(document["paths"])
        row = document["components"]["schemas"][f"{name}_row"]
        assert set(row["properties"]) == set(discovery.get(name).schema.feature_names)
        assert row["examples"] == [dict(discovery.get(name).example)]
        assert f"/{name}/predict" in serving.get("/docs").text
    assert {"/projects", "/healthz", "/readyz", "/metrics"} <= set(document["paths"])
    for path, route in document["paths"].items():
        for operation in route.values():
            codes = set(operation["responses"])
            assert {"200", "400", "403", "408", "431"} <= codes, path
            assert "requestBody" not in operation or {"404", "411", "413", "415", "422", "503"} <= codes, path
            assert "{project}" not in path or "404" in codes, path
            assert ("401" in codes) == path.endswith("/feedback"), path
    feedback = document["paths"]["/titanic/feedback"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    label = feedback["properties"]["labels"]["items"]
    assert set(label["properties"]) == {"id", "label", "group"}
    assert label["required"] == ["id", "label"]
    description = serving.get("/titanic/model").json()
    assert (description["project"], description["stale"], len(description["sha256"])) == ("titanic", False, 64)
