"""A registered model works with MLflow's own programs, without phaseflow."""

from __future__ import annotations

import csv
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Map, Object, Property

from phaseflow import discovery, predictor
from phaseflow.columns import Column, Schema
from phaseflow.kinds import KINDS
from phaseflow.settings import ROOT, Settings
from phaseflow.toolkit import bag, graph
from phaseflow.toolkit.client import sent
from pipelines.steps import champion, data, evaluate, flavor, gate, register, tracking
from pipelines.steps.train import train
from pipelines.tests.scoring import MLFLOW, run, score, served

TITANIC = discovery.get("titanic")
EVERY_KIND = Schema(
    features=(
        Column(name="number", kind="number", nullable=True, minimum=0),
        Column(name="integer", kind="integer", maximum=9),
        Column(name="count", kind="integer", nullable=True),
        Column(name="boolean", kind="boolean"),
        Column(name="maybe", kind="boolean", nullable=True),
        Column(name="category", kind="category", allowed=("red", "green")),
        Column(name="text", kind="text", nullable=True),
        Column(name="user", kind="id", personal=True),
        Column(name="image", kind="image", shape=(2, 2, 1)),
    ),
    target=Column(name="target", kind="category", allowed=("no", "yes")),
)
ROWS = pl.DataFrame(
    {
        "number": [None, 1.5],
        "integer": [1, 2],
        "count": [None, 3],
        "boolean": [True, False],
        "maybe": [None, True],
        "category": ["red", "green"],
        "text": ["hello", None],
        "user": ["a" * 32, "b" * 32],
        "image": [bytes([0, 1, 2, 3]), bytes(4)],
    },
    schema_overrides={"number": pl.Float64, "count": pl.Int64, "maybe": pl.Boolean},
)
TEXTS = Schema(
    features=(Column(name="review", kind="text"),),
    target=Column(name="sentiment", kind="category", allowed=("bad", "good")),
)


def save(folder: Path, content: bytes, schema: Schema, rows: pl.DataFrame, classes: list[str] | None = None) -> Model:
    """Save a model as the registration does, and return its metadata."""
    model = Model()
    flavor.save_model(str(folder), model, content=content, manifest=b"{}", schema=schema, classes=classes, example=rows)
    return model


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with a feature of each kind, whose contributions are 0, 1, 2, ..."""
    folder = tmp_path_factory.mktemp("every_kind") / "model"
    outputs = {
        "label": np.array("yes", dtype=object),
        "probabilities": np.array([0.25, 0.75], np.float32),
        "contributions": np.arange(len(EVERY_KIND.features), dtype=np.float32),
    }
    save(folder, graph.constant_model(EVERY_KIND, outputs), EVERY_KIND, ROWS, ["no", "yes"])
    return folder


@pytest.fixture
def frame(every_kind: Path) -> pd.DataFrame:
    """The valid rows of the model's input example."""
    example: pd.DataFrame = mlflow.pyfunc.load_model(str(every_kind)).input_example
    return example


def test_the_signature_is_that_of_the_contract(every_kind: Path) -> None:
    signature = Model.load(str(every_kind)).signature
    assert signature.inputs.inputs == [
        ColSpec(DataType.double, "number", required=False),
        ColSpec(DataType.long, "integer"),
        ColSpec(DataType.double, "count", required=False),
        ColSpec(DataType.boolean, "boolean"),
        ColSpec(AnyType(), "maybe", required=False),
        ColSpec(DataType.string, "category"),
        ColSpec(DataType.string, "text", required=False),
        ColSpec(DataType.string, "user"),
        ColSpec(DataType.binary, "image"),
    ]
    reason = Object([Property("feature", DataType.string), Property("contribution", DataType.double)])
    assert signature.outputs.inputs == [
        ColSpec(DataType.string, "prediction"),
        ColSpec(Map(DataType.double), "probabilities"),
        ColSpec(Array(reason), "why"),
    ]


def test_every_dtype_of_a_kind_has_a_type() -> None:
    assert {kind.dtype for kind in KINDS.values()} == flavor.TYPES.keys()


@pytest.mark.parametrize(
    ("target", "outputs", "expected"),
    [
        (Column(name="t", kind="number"), {"value": np.array(1.5, np.float32)}, (DataType.double, 1.5)),
        (Column(name="t", kind="text"), {"text": np.array("hello", dtype=object)}, (DataType.string, "hello")),
        (
            Column(name="t", kind="action", shape=(2,)),
            {"action": np.array([0.5, -1], np.float32)},
            (Array(DataType.double), [0.5, -1.0]),
        ),
        (
            Column(name="t", kind="ranking"),
            {"ranking": np.array(["b", "a"], dtype=object), "scores": np.array([2, 1], np.float32)},
            (Array(DataType.string), ["b", "a"]),
        ),
        (
            Column(name="t", kind="boxes", allowed=("cat",)),
            {
                "boxes": np.array([[1, 2, 3, 4]], np.float32),
                "scores": np.array([0.5], np.float32),
                "labels": np.array([0]),
            },
            (
                Array(
                    Object(
                        [
                            Property("box", Array(DataType.double)),
                            Property("label", DataType.string),
                            Property("score", DataType.double),
                        ]
                    )
                ),
                [{"box": [1.0, 2.0, 3.0, 4.0], "label": "cat", "score": 0.5}],
            ),
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Column) else "",
)
def test_each_kind_of_prediction_has_a_type(
    tmp_path: Path, target: Column, outputs: dict[str, Any], expected: tuple[Any, Any]
) -> None:
    schema = Schema(features=(Column(name="x", kind="number"),), target=target)
    save(tmp_path / "model", graph.constant_model(schema, outputs), schema, pl.DataFrame({"x": [1.0, 2.0]}))
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    kind, value = expected
    assert model.metadata.get_output_schema().inputs == [ColSpec(kind, "prediction")]
    assert model.predict(pd.DataFrame({"x": [1.0, 2.0]}))["prediction"].tolist() == [value, value]


def test_the_model_brings_the_modules_that_it_needs_and_no_others(every_kind: Path, tmp_path: Path) -> None:
    result = score(str(every_kind), sent(ROWS, EVERY_KIND), tmp_path)
    brought = sorted(str(path) for path in (every_kind / "code").rglob("*.py"))
    assert result["modules"] == brought
    for path in brought:
        assert Path(path).read_text() == (ROOT / Path(path).relative_to(every_kind / "code")).read_text()
    prediction = {
        "prediction": "yes",
        "probabilities": {"no": 0.25, "yes": 0.75},
        "why": [{"feature": name, "contribution": size} for name, size in [("image", 8), ("user", 7), ("text", 6)]],
    }
    assert result["together"] == result["alone"] == [prediction, prediction]


def test_the_environment_is_the_same_for_every_model(every_kind: Path) -> None:
    packages = [line.partition("==")[0] for line in (every_kind / "requirements.txt").read_text().splitlines()]
    assert packages == ["mlflow", "numpy", "onnxruntime", "pandas", "pillow"]


def test_the_index_stays_and_an_empty_frame_has_no_predictions(every_kind: Path, frame: pd.DataFrame) -> None:
    model = mlflow.pyfunc.load_model(str(every_kind))
    frame.index = pd.Index(["first", "second"])
    assert model.predict(frame).index.tolist() == ["first", "second"]
    empty = model.predict(frame.iloc[:0])
    assert (len(empty), list(empty.columns)) == (0, ["prediction", "probabilities", "why"])


def test_an_optional_column_may_be_left_out(every_kind: Path, frame: pd.DataFrame) -> None:
    model = mlflow.pyfunc.load_model(str(every_kind))
    assert len(model.predict(frame.drop(columns=["number", "count", "maybe", "text"]))) == 2


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("category", ["red", "grey"], "category of row 1 is 'grey'. Did you mean \"green\"?"),
        ("category", ["red", 3], "category of row 1 is 3. Send one of red, green."),
        ("category", ["red", None], "category of row 1 is missing. Send one of red, green."),
        ("number", [-1.0, None], "number of row 0 is -1.0. Send a finite number from 0 or null."),
        ("number", [1.0, float("inf")], "number of row 1 is inf. Send a finite number from 0 or null."),
        ("integer", [1, 10], "integer of row 1 is 10. Send a whole number up to 9."),
        ("count", [1.5, 2.0], "count of row 0 is 1.5. Send a whole number or null."),
        ("maybe", ["yes", None], "maybe of row 0 is 'yes'. Send true or false or null."),
        ("text", ["a" * 100_001, None], f"text of row 0 is '{'a' * 99}. Send a text or null."),
        (
            "user",
            ["anna", "b" * 32],
            "user of row 0 is 'anna', but the column is personal and the model was trained on its keyed hashes. Take the "
            "hashes from a snapshot or the prediction log, or let the service predict the row.",
        ),
        (
            "image",
            [b"GIF89a", b""],
            "image of row 0: The image can't be read: no PNG or JPEG. Send a whole PNG or JPEG file.",
        ),
        (
            "image",
            [3, b""],
            "image of row 0 is not an image: memoryview: a bytes-like object is required, not 'int'. Send a PNG or JPEG file as "
            "base64, alone or in a data: URL, or its bytes.",
        ),
        (
            "image",
            ["?", "?"],
            "image of row 0 is not an image: Only base64 data is allowed. Send a PNG or JPEG file as base64, alone or in a "
            "data: URL, or its bytes.",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_column(
    every_kind: Path, frame: pd.DataFrame, column: str, values: list[Any], message: str
) -> None:
    with pytest.raises(MlflowException) as error:
        mlflow.pyfunc.load_model(str(every_kind)).predict(frame.assign(**{column: values}))
    assert (error.value.message, error.value.get_http_status_code()) == (message, 400)


def test_mlflow_refuses_a_missing_column_and_a_wrong_type_by_name(every_kind: Path, frame: pd.DataFrame) -> None:
    model = mlflow.pyfunc.load_model(str(every_kind))
    with pytest.raises(MlflowException, match=r"Model is missing inputs \['category'\]"):
        model.predict(frame.drop(columns="category"))
    with pytest.raises(MlflowException, match="Incompatible input types for column integer"):
        model.predict(frame.assign(integer=["one", "two"]))


def test_a_model_that_another_release_wrote_is_refused(every_kind: Path) -> None:
    file = every_kind / "extra_files" / "contract.json"
    text = file.read_text()
    try:
        file.write_text(json.dumps(json.loads(text) | {"format": 2}))
        with pytest.raises(Exception, match=r"contract.json in .* has the format 2; this release reads format 1"):
            mlflow.pyfunc.load_model(str(every_kind))
    finally:
        file.write_text(text)


class Messages(logging.Handler):
    """Keeps the messages of warnings and errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture(scope="module")
def registration(
    settings: Settings, mlflow_server: Any, titanic_snapshot: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[str]]:
    """Titanic's champion in a real MLflow; the warnings of its registration."""
    folder, name = tmp_path_factory.mktemp("trained"), TITANIC.candidates[0].name
    train("titanic", titanic_snapshot, name, folder)
    evaluation = evaluate.evaluate("titanic", titanic_snapshot, [folder])
    verdict = gate.judge(TITANIC, evaluation).to_dict()
    messages = Messages()
    loggers = [logging.getLogger(), logging.getLogger("mlflow")]
    for logger in loggers:
        logger.addHandler(messages)
    with warnings.catch_warnings(record=True) as raised:
        result = register.register("titanic", titanic_snapshot, "scored", evaluation, verdict, {name: folder})
    for logger in loggers:
        logger.removeHandler(messages)
    tracking.client().set_registered_model_alias("titanic", "champion", result["version"])
    yield [*messages.texts, *(str(item.message) for item in raised)]
    tracking.client().delete_registered_model("titanic")


def predictions(content: bytes, schema: Schema, classes: list[str], rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The service's predictions, as a python_function names them."""
    model = predictor.load(content, schema, classes)
    fields = model.fields(model.predict(rows.select(schema.feature_names).rows()))
    return [{"prediction": item.pop(model.prediction.outputs[0]), **item} for item in fields]


def invoke(url: str, body: dict[str, Any]) -> httpx.Response:
    """A request to MLflow's scoring server."""
    return httpx.post(f"{url}/invocations", json=body, timeout=60)


def test_a_registration_warns_of_nothing(registration: list[str]) -> None:
    assert registration == []


def test_titanics_champion_is_scored_by_mlflows_commands(
    registration: list[str], settings: Settings, titanic_snapshot: str, tmp_path: Path
) -> None:
    rows = data.split(TITANIC, titanic_snapshot, "holdout")
    present = champion.fetch(TITANIC)
    assert present is not None
    expected = predictions(present.onnx, TITANIC.schema, list(present.classes), rows)
    body = {"dataframe_records": sent(rows, TITANIC.schema)}
    uri, tracked = "models:/titanic@champion", settings.mlflow_url

    (tmp_path / "rows.json").write_text(json.dumps(body))
    files = ["--input-path", "rows.json", "--content-type", "json", "--output-path", "out.json"]
    run([str(MLFLOW), "models", "predict", "--model-uri", uri, "--env-manager", "local", *files], tmp_path, tracked)
    assert json.loads((tmp_path / "out.json").read_text()) == {"predictions": expected}

    with served(uri, tmp_path, tracked) as url:
        assert invoke(url, body).json() == {"predictions": expected}
        wrong = {"dataframe_records": [body["dataframe_records"][0] | {"sex": "mail"}]}
        response = invoke(url, wrong)

    page = (ROOT / "docs" / "how-to" / "use-from-mlflow.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0].replace("http://127.0.0.1:5500", tracked)
    (tmp_path / "page.py").write_text(code)
    assert "probabilities" in run([sys.executable, "-I", "page.py"], tmp_path)
    assert response.status_code == 400
    assert "sex of row 0 is 'mail'. Did you mean \"male\"?" in response.json()["message"]


def test_a_model_of_texts_is_scored_by_mlflows_commands(tmp_path: Path) -> None:
    words = {"good": "a fine, moving film", "bad": "a dull and noisy film"}
    rows = pl.DataFrame(
        [(f"{text} number {number}", label) for number in range(20) for label, text in words.items()],
        schema=["review", "sentiment"],
        orient="row",
    )
    trained = bag.fit(rows, TEXTS)
    save(tmp_path / "model", trained.onnx, TEXTS, rows.head(2), list(trained.classes))
    expected = predictions(trained.onnx, TEXTS, list(trained.classes), rows)

    with (tmp_path / "rows.csv").open("w") as file:
        csv.writer(file).writerows([["review"], *([text] for text in rows["review"])])
    files = ["--input-path", "rows.csv", "--content-type", "csv", "--output-path", "out.json"]
    run([str(MLFLOW), "models", "predict", "--model-uri", "model", "--env-manager", "local", *files], tmp_path)
    assert json.loads((tmp_path / "out.json").read_text()) == {"predictions": expected}

    with served("model", tmp_path) as url:
        split = {"columns": ["review"], "data": [[text] for text in rows["review"]]}
        assert invoke(url, {"dataframe_split": split}).json() == {"predictions": expected}
