"""Structured predictions (boxes, a ranking, an action, a text) over HTTP, with their log, labels and counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from services.serving.tests.conftest import Serving, cached, until

CAT = {"box": [2.0, 4.0, 6.0, 8.0], "label": "cat"}
DOG = {"box": [2.0, 2.0, 4.0, 4.0], "label": "dog"}
PREDICTIONS = {
    "boxes": [DOG | {"score": 0.75}, CAT | {"score": 0.25}],
    "ranking": ["b", "c"],
    "action": [1.0, -2.0],
    "text": "it is large, and grows",
}
SERIALIZED = {
    "boxes": '[{"box":[2.0,2.0,4.0,4.0],"label":"dog","score":0.75},{"box":[2.0,4.0,6.0,8.0],"label":"cat","score":0.25}]',
    "ranking": '["b","c"]',
    "action": "[1.0,-2.0]",
    "text": "it is large, and grows",
}


@pytest.fixture(scope="module")
def structured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service with all four projects in its cache; MLflow is unreachable."""
    with cached(tmp_path_factory, "structured.py", [f"with_{kind}" for kind in PREDICTIONS]) as service:
        yield service


def ask(service: Serving, kind: str, size: float = 2) -> dict[str, Any]:
    response = service.post(f"/with_{kind}/predict", json={"size": size})
    assert response.status_code == 200, response.text
    prediction: dict[str, Any] = response.json()["predictions"][0]
    return prediction


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_it_is_answered_in_the_form_of_its_kind_alone_and_among_others(structured: Serving, kind: str) -> None:
    prediction = ask(structured, kind)
    assert set(prediction) == {"id", kind}
    assert prediction[kind] == PREDICTIONS[kind]
    many = structured.post(f"/with_{kind}/predict", json={"rows": [{"size": 1}, {"size": 2}, {"size": 3}]}).json()
    assert many["predictions"][1][kind] == PREDICTIONS[kind]


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_the_log_holds_it_as_text_with_how_sure_it_was(structured: Serving, kind: str) -> None:
    identity = ask(structured, kind)["id"]
    rows = until(
        lambda: structured.logged(project=f"with_{kind}").rows_by_key("id", named=True, unique=True).get(identity)
    )
    assert rows["prediction"] == SERIALIZED[kind]
    assert rows["score"] == {"boxes": 0.75, "ranking": 6.0}.get(kind)


@pytest.mark.parametrize(
    ("kind", "label", "losses"),
    [
        ("boxes", [DOG], {"error": 0.0}),
        ("boxes", [DOG | {"score": 0.5}, CAT], {"error": 1 / 3}),
        ("boxes", [], {"error": 1.0}),
        ("ranking", ["b", "a"], {"error": 0.5}),
        ("action", [1, 0], {"absolute": 1.0, "squared": 2.0}),
        ("text", "It is small and grows.", {"error": 0.2}),
    ],
)
def test_a_label_is_kept_and_its_loss_is_counted(
    structured: Serving, kind: str, label: Any, losses: dict[str, float]
) -> None:
    project = f"with_{kind}"

    def sums() -> dict[str, float]:
        return {loss: structured.metric("phaseflow_live_loss_total", project=project, loss=loss) for loss in losses}

    before = sums()
    identity = ask(structured, kind)["id"]
    response = structured.post(f"/{project}/feedback", json={"labels": [{"id": identity, "label": label}]})
    assert response.json() == {"accepted": 1}
    for loss, value in sums().items():
        assert value - before[loss] == pytest.approx(losses[loss], abs=1e-6)
    until(lambda: identity in structured.logged("feedback", project)["id"].to_list())


@pytest.mark.parametrize(
    ("kind", "label", "problem", "fix"),
    [
        (
            "boxes",
            [{"box": [1, 2, 3, 4], "label": "cow"}],
            "The label is 'cow'; allowed: cat, dog",
            "Send one of them.",
        ),
        (
            "boxes",
            [{"box": [1, 2, 0, 4], "label": "cat"}],
            "The box is [1.0, 2.0, 0.0, 4.0]",
            "Send four numbers in pixels, ",
        ),
        ("boxes", ["cat"], "None is no list", "Send four numbers in pixels, "),
        ("ranking", ["a", "a"], "The id 'a' is empty or stands twice", "Send each id once."),
        ("action", [1], "The action is [1.0]", "Send 2 numbers from -100 to 100."),
        ("action", [1, 101], "The action is [1.0, 101.0]", "Send 2 numbers from -100 to 100."),
        ("action", [1, "left"], "'left' is no finite number", "Send 2 numbers from -100 to 100."),
    ],
)
def test_a_label_of_another_form_is_refused(structured: Serving, kind: str, label: Any, problem: str, fix: str) -> None:
    response = structured.post(f"/with_{kind}/feedback", json={"labels": [{"id": "a", "label": label}]})
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["problem"] == f"labels[0].label: {problem}"
    assert error["fix"].startswith(fix)
    assert error["field"] == "label"


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_a_label_of_another_type_is_refused(structured: Serving, kind: str) -> None:
    response = structured.post(f"/with_{kind}/feedback", json={"labels": [{"id": "a", "label": 3}]})
    assert response.status_code == 422
    assert response.json()["error"]["problem"].startswith("Expected `")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("boxes", {"prediction.count", "prediction.size"}),
        ("ranking", {"prediction.first"}),
        ("action", {"prediction.0", "prediction.1"}),
        ("text", {f"prediction.{name}" for name in ("characters", "words", "word_length", "unknown")}),
    ],
)
def test_its_figures_are_counted_beside_the_references(structured: Serving, kind: str, names: set[str]) -> None:
    def count(feature: str) -> float:
        return structured.metric("phaseflow_feature_bin_total", project=f"with_{kind}", feature=feature)

    before = {name: count(name) for name in names}
    for size in (0.5, 1, 2, 4):
        ask(structured, kind, size)
    assert {name: count(name) - before[name] for name in names} == dict.fromkeys(names, 4.0)
    for name in names:
        shares = structured.metric("phaseflow_feature_bin_reference", project=f"with_{kind}", feature=name)
        assert shares == pytest.approx(1)


def test_no_finite_answer_is_refused(structured: Serving) -> None:
    response = structured.post("/with_action/predict", json={"rows": [{"size": 1}, {"size": 3.4e38}]})
    assert response.status_code == 200  # large, but finite
    response = structured.post("/with_boxes/predict", json={"rows": [{"size": 1}, {"size": 3.4e38}]})
    assert response.json()["error"]["problem"] == "The model's prediction for row 1 is not finite"


@pytest.mark.parametrize(
    ("kind", "datatype", "shape", "data"),
    [
        ("boxes", "BYTES", [1], [SERIALIZED["boxes"]]),
        ("ranking", "BYTES", [1], [SERIALIZED["ranking"]]),
        ("action", "FP32", [1, 2], [1.0, -2.0]),
        ("text", "BYTES", [1], [PREDICTIONS["text"]]),
    ],
)
def test_the_open_inference_protocol_gives_it_too(
    structured: Serving, kind: str, datatype: str, shape: list[int], data: list[Any]
) -> None:
    outputs = structured.get(f"/v2/models/with_{kind}").json()["outputs"]
    assert [(output["name"], output["datatype"]) for output in outputs] == [("id", "BYTES"), (kind, datatype)]
    request_body = {"inputs": [{"name": "size", "shape": [1], "datatype": "FP64", "data": [2.0]}]}
    prediction = structured.post(f"/v2/models/with_{kind}/infer", json=request_body).json()["outputs"][1]
    assert prediction == {"name": kind, "datatype": datatype, "shape": shape, "data": data}


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_its_form_is_described(structured: Serving, kind: str) -> None:
    document = structured.get("/openapi.json").json()
    row = document["components"]["schemas"][f"with_{kind}_prediction"]
    assert row["required"] == ["id", kind]
    assert row["properties"][kind]["type"] == ("string" if kind == "text" else "array")
    labels = document["paths"][f"/with_{kind}/feedback"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert labels["properties"]["labels"]["items"]["properties"]["label"]["type"] == row["properties"][kind]["type"]
