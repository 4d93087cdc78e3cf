"""Image classifiers without PyTorch: scikit-learn's logistic regression or MLP on the pixels, as one ONNX file."""

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
"""Maximum accepted difference between a probability of the ONNX model and scikit-learn's."""


def image_column(schema: Schema) -> Column:
    """The only image feature; raises PhaseflowError unless there is exactly one."""
    columns = [column for column in schema.features if column.kind == "image"]
    if len(columns) != 1:
        raise PhaseflowError(
            f"An image classifier reads one image; the schema has {len(columns)}",
            fix="Keep one feature of the kind image",
        )
    return columns[0]


def classifier(hidden: int, seed: int, C: float = 0.01) -> Any:  # noqa: N803  # scikit-learn's name
    """Logistic regression with scikit-learn's `C`, or an MLP with one layer of `hidden` units if `hidden` > 0."""
    if hidden:
        return MLPClassifier((hidden,), alpha=1e-3, max_iter=60, random_state=seed)
    return LogisticRegression(C=C, max_iter=200, random_state=seed)


def shares(values: pl.Series, column: Column) -> Any:
    """Images [N] as float32 [N, pixels] from -0.5 to 0.5, as the graph computes them."""
    return graph.pixels(values, (column.size,)).astype(np.float32) / 255 - np.float32(0.5)


def fit(rows: pl.DataFrame, schema: Schema, *, hidden: int = 0, C: float = 0.01, seed: int = 0) -> Trained:  # noqa: N803  # scikit-learn's name
    """Fit on rows [N] with the schema's target, convert to ONNX, and compare both models on the same rows.

    Raises PhaseflowError if the probabilities of both models differ by more than `GAP`.
    """
    assert schema.target is not None  # noqa: S101  # every supervised schema has one; the contract's suite holds it
    column = image_column(schema)
    inputs, labels = shares(rows[column.name], column), rows[schema.target.name].cast(pl.String).to_numpy().astype(str)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed
        model = classifier(hidden, seed, C).fit(inputs, labels)
    layers = _layers(model)
    content = to_onnx(layers, schema, column, [str(name) for name in model.classes_])
    probabilities = graph.run(content, graph.feed(rows, schema))["probabilities"]
    gap = float(np.abs(probabilities - model.predict_proba(inputs)).max())
    graph.check_parity(gap, GAP, "probability", fix="Use fewer hidden units")
    return Trained(
        onnx=content,
        classes=tuple(str(name) for name in model.classes_),
        notes={"largest difference to scikit-learn": f"{gap:.1e}"},
    )


def _layers(model: Any) -> list[tuple[Any, Any]]:
    """Weights [inputs, outputs] and offsets of each layer; the last layer has one score per class."""
    if isinstance(model, MLPClassifier):
        layers = list(zip(model.coefs_, model.intercepts_, strict=True))
    else:
        layers = [(model.coef_.T, model.intercept_)]
    return [*layers[:-1], graph.expand_binary(*layers[-1])]


def to_onnx(layers: list[tuple[Any, Any]], schema: Schema, column: Column, classes: list[str]) -> bytes:
    """The layers as a graph from pixels, with `Relu` between layers."""
    nodes = [
        helper.make_node("Cast", [column.name], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["numbers", "white"], ["bright"]),
        helper.make_node("Sub", ["bright", "middle"], ["centred"]),
        helper.make_node("Flatten", ["centred"], ["flow"], axis=1),
    ]
    constants = [graph.constant("white", np.float32(255)), graph.constant("middle", np.float32(0.5))]
    scoring, weights = graph.dense(layers, "flow", "scores")
    return graph.classifier(schema, [*nodes, *scoring], [*constants, *weights], "scores", classes)
