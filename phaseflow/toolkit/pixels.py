"""Images without PyTorch: logistic regression or one hidden layer on the pixels, by scikit-learn, as one ONNX file."""

from __future__ import annotations

import warnings
from typing import Any, Final

import numpy as np
import polars as pl
from onnx import TensorProto, helper
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from phaseflow.contract import Column, Schema
from phaseflow.errors import PhaseflowError
from phaseflow.toolkit import graph
from phaseflow.toolkit.model import Trained

GAP: Final = 1e-4
"""Largest difference of a probability to scikit-learn's that conversion accepts."""


def image_column(schema: Schema) -> Column:
    """The one image among the features; raises PhaseflowError where there is none, or several."""
    found = [column for column in schema.features if column.kind == "image"]
    if len(found) != 1:
        raise PhaseflowError(
            f"One image is looked at; the schema has {len(found)}", fix="Keep one feature of the kind image"
        )
    return found[0]


def classifier(hidden: int, seed: int, strength: float = 0.01) -> Any:
    """Logistic regression, or with `hidden` units a layer between; `strength` is the former's C."""
    if hidden:
        return MLPClassifier((hidden,), alpha=1e-3, max_iter=60, random_state=seed)
    return LogisticRegression(C=strength, max_iter=200, random_state=seed)


def shares(values: pl.Series, column: Column) -> Any:
    """Images [N] as numbers of -0.5 to 0.5, float32 [N, pixels]: what both learn from, and the graph computes."""
    return graph.pixels(values, (column.size,)).astype(np.float32) / 255 - np.float32(0.5)


def fit(rows: pl.DataFrame, schema: Schema, *, hidden: int = 0, strength: float = 0.01, seed: int = 0) -> Trained:
    """Fit on rows [N] with the schema's target, convert, and compare both on the same rows.

    Raises PhaseflowError when the graph's probabilities differ by more than `GAP`.
    """
    assert schema.target is not None  # noqa: S101  # every supervised schema has one; the contract's suite holds it
    column = image_column(schema)
    seen, truth = shares(rows[column.name], column), rows[schema.target.name].cast(pl.String).to_numpy().astype(str)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its epochs are what it was given
        model = classifier(hidden, seed, strength).fit(seen, truth)
    layers = _layers(model)
    content = to_onnx(layers, schema, column, [str(name) for name in model.classes_])
    said = graph.run(content, graph.feed(rows, schema))["probabilities"]
    gap = float(np.abs(said - model.predict_proba(seen)).max())
    graph.alike(gap, GAP, "probability", fix="Use fewer hidden units")
    return Trained(
        onnx=content,
        classes=tuple(str(name) for name in model.classes_),
        notes={"largest difference to scikit-learn": f"{gap:.1e}"},
    )


def _layers(model: Any) -> list[tuple[Any, Any]]:
    """Weights [inputs, outputs] and offsets of each layer; the last one has a score a class."""
    if isinstance(model, MLPClassifier):
        layers = list(zip(model.coefs_, model.intercepts_, strict=True))
    else:
        layers = [(model.coef_.T, model.intercept_)]
    return [*layers[:-1], graph.every_class(*layers[-1])]


def to_onnx(layers: list[tuple[Any, Any]], schema: Schema, column: Column, classes: list[str]) -> bytes:
    """The layers as a graph from pixels, `Relu` between two."""
    nodes = [
        helper.make_node("Cast", [column.name], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["numbers", "white"], ["bright"]),
        helper.make_node("Sub", ["bright", "middle"], ["centred"]),
        helper.make_node("Flatten", ["centred"], ["flow"], axis=1),
    ]
    constants = [graph.constant("white", np.float32(255)), graph.constant("middle", np.float32(0.5))]
    scoring, weights = graph.dense(layers, "flow", "scores")
    return graph.classifier(schema, [*nodes, *scoring], [*constants, *weights], "scores", classes)
