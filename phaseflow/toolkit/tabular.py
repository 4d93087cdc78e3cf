"""Tables: from a frame to scikit-learn's input, and from an estimator to one ONNX file with its preprocessing inside.

What goes into the graph and what comes out of it: `phaseflow.toolkit.graph`.
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

from phaseflow.contract import Schema
from phaseflow.toolkit.graph import NUMERIC, alike, feed, run
from phaseflow.toolkit.model import Trained

PREFIX: Final = "phaseflow_"
PROBABILITY_GAP: Final = 1e-5
VALUE_GAP: Final = 1e-4
"""Largest difference between scikit-learn (double precision) and ONNX (single) that conversion accepts: of a probability,
or relative to a value, where a forest sums a hundred trees in single precision."""

FIX: Final = "Scale the numbers, or use an estimator that works in single precision"
MOST_WORDS: Final = 50
"""Values of a word column that a model knows; the others are unknown to it."""


def numbers(schema: Schema) -> list[str]:
    """Names of the features that are numbers to a model."""
    return [column.name for column in schema.features if column.kind in NUMERIC]


def categories(schema: Schema) -> list[str]:
    """Names of the features that are words to a model."""
    return [column.name for column in schema.features if column.kind not in NUMERIC]


def inputs(rows: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """The features as every estimator gets them, and as the ONNX graph does: Float32 with NaN, String with ''.

    Training on single precision puts a tree's thresholds between values that the service can send.
    """
    return rows.select(
        [pl.col(name).cast(pl.Float32).fill_null(float("nan")) for name in numbers(schema)]
        + [pl.col(name).cast(pl.String).fill_null("") for name in categories(schema)]
    )


def frequent(values: pl.Series) -> list[str]:
    """The `MOST_WORDS` most frequent values, sorted: a column for each rare one would cost more than it tells."""
    counts = values.value_counts().sort("count", values.name, descending=[True, False])
    return sorted(counts[values.name].head(MOST_WORDS).to_list())


def preprocessing(schema: Schema, features: pl.DataFrame, *, scale: bool) -> ColumnTransformer:
    """Numbers: the median for missing ones, scaled for linear models. Words: one column each, none for an unknown one.

    `features` are the `inputs` that it will be fitted on, which say what words are frequent.
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
    """Fit on rows [N] with the schema's target, convert, and compare both on the same rows.

    Raises PhaseflowError when the converted model differs by more than `PROBABILITY_GAP`.
    """
    assert schema.target is not None  # noqa: S101  # every supervised schema has one; the contract's suite holds it
    truth = rows[schema.target.name].cast(pl.String).to_numpy().astype(str)
    features = inputs(rows, schema)
    model = Pipeline([("preprocessing", preprocessing(schema, features, scale=scale)), ("estimator", estimator)])
    named = prefixed(features)
    model.fit(named, truth)
    content = to_onnx(model, schema)
    ours = run(content, feed(rows, schema))["probabilities"]
    gap = float(np.abs(model.predict_proba(named) - ours).max())
    alike(gap, PROBABILITY_GAP, "probability", fix=FIX)
    return Trained(
        onnx=content,
        classes=tuple(map(str, model.classes_)),
        notes={"largest difference to scikit-learn": f"{gap:.1e}"},
    )


def fit_regressor(
    rows: pl.DataFrame, schema: Schema, estimator: Any, *, scale: bool = False, log: bool = False
) -> Trained:
    """Fit on rows [N] with the schema's target (on its logarithm if `log`), convert, and compare both on the same rows.

    Raises PhaseflowError when the converted model differs by more than `VALUE_GAP` of the value.
    """
    assert schema.target is not None  # noqa: S101  # every supervised schema has one; the contract's suite holds it
    truth = rows[schema.target.name].cast(pl.Float64).to_numpy()
    features = inputs(rows, schema)
    model = Pipeline([("preprocessing", preprocessing(schema, features, scale=scale)), ("estimator", estimator)])
    named = prefixed(features)
    model.fit(named, np.log(truth) if log else truth)
    content = to_onnx(model, schema, log=log)
    ours = run(content, feed(rows, schema))["value"]
    theirs = model.predict(named).reshape(-1)
    theirs = np.exp(theirs) if log else theirs
    gap = float((np.abs(theirs - ours) / np.maximum(np.abs(theirs), np.abs(truth).mean() + 1e-12)).max())
    alike(gap, VALUE_GAP, "value", fix=FIX)
    return Trained(onnx=content, notes={"largest relative difference to scikit-learn": f"{gap:.1e}"})


def to_onnx(model: Pipeline, schema: Schema, *, log: bool = False) -> bytes:
    """The fitted pipeline as an ONNX file; `log` says that it answers with the logarithm of the value."""
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
    """The features under names that nothing inside a converted graph bears: a column may be called `variable`."""
    return features.rename({name: PREFIX + name for name in features.columns})


def finished(graph: onnx.ModelProto) -> bytes:
    """The graph, checked, whose inputs bear the columns' names."""
    graph = onnx.compose.add_prefix(
        graph, "inner:", rename_nodes=False, rename_inputs=False, rename_outputs=False, rename_functions=False
    )
    for name in graph.graph.input:
        name.name = name.name.removeprefix(PREFIX)
    for node in graph.graph.node:
        node.input[:] = [name.removeprefix(PREFIX) for name in node.input]
    onnx.checker.check_model(graph)
    return bytes(graph.SerializeToString())
