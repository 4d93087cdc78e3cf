"""Tabular models: fit a scikit-learn estimator and convert it to one ONNX file that includes the preprocessing.

`phaseflow.toolkit.graph` describes the inputs and outputs of the graph.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx
import onnx.compose
import polars as pl
from onnx import TensorProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.base import is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from phaseflow import kinds
from phaseflow.contract import Schema
from phaseflow.toolkit.graph import check_parity, feed, run
from phaseflow.toolkit.model import Trained

PREFIX: Final = "phaseflow_"
PROBABILITY_GAP: Final = 1e-5
VALUE_GAP: Final = 1e-4
"""Maximum accepted difference between scikit-learn (double precision) and ONNX (single precision): absolute for
probabilities, relative for values, because a forest sums a hundred trees in single precision."""

FIX: Final = "Scale the numbers, or use an estimator that works in single precision"
MAX_WORDS: Final = 50
"""Maximum categories per column; other values are treated as unknown."""


def numbers(schema: Schema) -> list[str]:
    """Names of the features that a model treats as numbers."""
    return [column.name for column in schema.features if kinds.of(column).tensor == "FLOAT"]


def categories(schema: Schema) -> list[str]:
    """Names of the features that a model treats as categories."""
    return [column.name for column in schema.features if kinds.of(column).tensor != "FLOAT"]


def inputs(rows: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """The features as inputs of estimators and of the ONNX graph: Float32 with NaN, String with '' for missing values.

    Training in single precision puts the thresholds of trees between values that the service can send.
    """
    return rows.select(
        [pl.col(name).cast(pl.Float32).fill_null(float("nan")) for name in numbers(schema)]
        + [pl.col(name).cast(pl.String).fill_null("") for name in categories(schema)]
    )


def frequent(values: pl.Series) -> list[str]:
    """The `MAX_WORDS` most frequent values, sorted; columns for rare values would cost more than they contribute."""
    counts = values.value_counts().sort("count", values.name, descending=[True, False])
    return sorted(counts[values.name].head(MAX_WORDS).to_list())


def preprocessing(schema: Schema, features: pl.DataFrame, *, scale: bool) -> ColumnTransformer:
    """Impute missing numbers by the median and scale them if `scale`; one-hot encode categories (unknown: zeros).

    `features` are the `inputs` of the training rows; they determine which categories are frequent.
    """
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    parts: list[tuple[str, Any, list[str]]] = []
    if numbers(schema):
        steps = make_pipeline(fill, StandardScaler()) if scale else fill
        parts.append(("numbers", steps, [PREFIX + name for name in numbers(schema)]))
    if categories(schema):
        words = OneHotEncoder(
            categories=[frequent(features[name]) for name in categories(schema)],
            handle_unknown="ignore",
            sparse_output=False,
            dtype=np.float32,
        )
        parts.append(("words", words, [PREFIX + name for name in categories(schema)]))
    return ColumnTransformer(parts)


def fit_classifier(rows: pl.DataFrame, schema: Schema, estimator: Any, *, scale: bool = False) -> Trained:
    """Fit on rows [N] with the schema's target, convert to ONNX, and compare both models on the same rows.

    Raises PhaseflowError if a probability differs by more than `PROBABILITY_GAP`.
    """
    assert schema.target is not None  # noqa: S101  # every supervised schema has one; the contract's suite holds it
    labels = rows[schema.target.name].cast(pl.String).to_numpy().astype(str)
    features = inputs(rows, schema)
    model = Pipeline([("preprocessing", preprocessing(schema, features, scale=scale)), ("estimator", estimator)])
    prefixed_features = prefixed(features)
    model.fit(prefixed_features, labels)
    content = to_onnx(model, schema)
    onnx_probabilities = run(content, feed(rows, schema))["probabilities"]
    gap = float(np.abs(model.predict_proba(prefixed_features) - onnx_probabilities).max())
    check_parity(gap, PROBABILITY_GAP, "probability", fix=FIX)
    return Trained(
        onnx=content,
        classes=tuple(map(str, model.classes_)),
        notes={"largest difference to scikit-learn": f"{gap:.1e}"},
    )


def fit_regressor(
    rows: pl.DataFrame, schema: Schema, estimator: Any, *, scale: bool = False, log: bool = False
) -> Trained:
    """Fit on rows [N] with the schema's target (its logarithm if `log`), convert to ONNX, and compare both models.

    Raises PhaseflowError if a value differs by more than `VALUE_GAP`, relative to the value.
    """
    assert schema.target is not None  # noqa: S101  # every supervised schema has one; the contract's suite holds it
    labels = rows[schema.target.name].cast(pl.Float64).to_numpy()
    features = inputs(rows, schema)
    model = Pipeline([("preprocessing", preprocessing(schema, features, scale=scale)), ("estimator", estimator)])
    prefixed_features = prefixed(features)
    model.fit(prefixed_features, np.log(labels) if log else labels)
    content = to_onnx(model, schema, log=log)
    onnx_values = run(content, feed(rows, schema))["value"]
    sklearn_values = model.predict(prefixed_features).reshape(-1)
    sklearn_values = np.exp(sklearn_values) if log else sklearn_values
    gap = float(
        (np.abs(sklearn_values - onnx_values) / np.maximum(np.abs(sklearn_values), np.abs(labels).mean() + 1e-12)).max()
    )
    check_parity(gap, VALUE_GAP, "value", fix=FIX)
    return Trained(onnx=content, notes={"largest relative difference to scikit-learn": f"{gap:.1e}"})


def to_onnx(model: Pipeline, schema: Schema, *, log: bool = False) -> bytes:
    """The fitted pipeline as an ONNX file; `log` means that the pipeline predicts the logarithm of the value."""
    types = [(PREFIX + name, FloatTensorType([None, 1])) for name in numbers(schema)]
    types += [(PREFIX + name, StringTensorType([None, 1])) for name in categories(schema)]
    if is_classifier(model):
        graph = convert_sklearn(
            model,
            initial_types=types,
            target_opset=17,
            options={id(model): {"zipmap": False}},
            final_types=[
                ("label", StringTensorType([None])),
                ("probabilities", FloatTensorType([None, len(model.classes_)])),
            ],
        )
        return finished(graph)
    graph = convert_sklearn(model, initial_types=types, target_opset=17)
    last = graph.graph.output[0].name
    if log:
        graph.graph.node.append(helper.make_node("Exp", [last], ["exponential"]))
        last = "exponential"
    graph.graph.initializer.append(helper.make_tensor("flat", TensorProto.INT64, [1], [-1]))
    graph.graph.node.append(helper.make_node("Reshape", [last, "flat"], ["value"]))
    del graph.graph.output[:]
    graph.graph.output.append(helper.make_tensor_value_info("value", TensorProto.FLOAT, [None]))
    return finished(graph)


def prefixed(features: pl.DataFrame) -> pl.DataFrame:
    """The features with prefixed names, because the converter uses some names itself, such as `variable`."""
    return features.rename({name: PREFIX + name for name in features.columns})


def finished(graph: onnx.ModelProto) -> bytes:
    """The checked and serialised graph, with the columns' names as inputs."""
    graph = onnx.compose.add_prefix(
        graph, "inner:", rename_nodes=False, rename_inputs=False, rename_outputs=False, rename_functions=False
    )
    for name in graph.graph.input:
        name.name = name.name.removeprefix(PREFIX)
    for node in graph.graph.node:
        node.input[:] = [name.removeprefix(PREFIX) for name in node.input]
    onnx.checker.check_model(graph)
    return bytes(graph.SerializeToString())
