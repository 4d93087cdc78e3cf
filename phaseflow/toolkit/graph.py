"""The served ONNX graph: its inputs and outputs, and helpers that build graphs by hand.

A graph has one input per feature: float32 [N, 1] for numbers, integers and booleans (missing is NaN), uint8 [N, height,
width, channels] for images, text [N, 1] for other kinds (missing is ""). `phaseflow.kinds` describes its outputs. An optional output `contributions` [N, features] says how much each feature contributed to the prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import polars as pl
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from phaseflow import generation, kinds, predictor
from phaseflow.contract import Column, Schema
from phaseflow.errors import PhaseflowError
from phaseflow.kinds import tensors

OPSET: Final = 17
IR_VERSION: Final = 10
"""The newest version that every supported onnxruntime reads."""

Array = npt.NDArray[Any]


def pixels(images: pl.Series, shape: tuple[int, ...]) -> Array:
    """A column of images as uint8 [N, *shape]; raises ValueError if an image is missing or has another size."""
    if images.null_count():
        raise ValueError(f"{images.null_count()} images of {images.name} are missing")
    return np.frombuffer(b"".join(images.to_list()), np.uint8).reshape(len(images), *shape)


def feed(rows: pl.DataFrame, schema: Schema) -> dict[str, Array]:
    """The graph's inputs for rows [N] with the schema's features."""
    return {column.name: tensors.of(column).from_series(rows[column.name], column) for column in schema.features}


Session: TypeAlias = "onnxruntime.InferenceSession | generation.Generator"


def session(content: bytes) -> Session:
    """A session that runs the model on one thread, as the service does; telemetry is off."""
    runner: Session = predictor.session(content)
    return runner


def run(model: bytes | Session, feeds: dict[str, Array]) -> dict[str, Array]:
    """The graph's outputs by name."""
    runner = session(model) if isinstance(model, bytes) else model
    output_names: Sequence[str] = [output.name for output in runner.get_outputs()]
    input_names = {node.name for node in runner.get_inputs()}  # the graph has no input for a feature that no tree uses
    return dict(
        zip(output_names, runner.run(output_names, {k: v for k, v in feeds.items() if k in input_names}), strict=True)
    )


def check_parity(gap: float, allowed: float, what: str, *, fix: str) -> None:
    """Raise PhaseflowError if a converted model differs from scikit-learn's by more than `allowed`, or by NaN."""
    if not gap <= allowed:
        raise PhaseflowError(
            f"The ONNX model's {what} differs from scikit-learn's by {gap:.1e}; allowed: {allowed:.0e}", fix=fix
        )


def constant(name: str, values: Any) -> TensorProto:
    """A named constant of a graph: numbers with NumPy's dtype, or texts."""
    return numpy_helper.from_array(np.asarray(values), name)


def input_info(column: Column) -> ValueInfoProto:
    """The graph's input for a column."""
    element = TensorProto.DataType.Value(kinds.of(column).tensor)
    return helper.make_tensor_value_info(column.name, element, [None, *tensors.of(column).shape(column)])


def dense(layers: Sequence[tuple[Array, Array]], begin: str, out: str) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes and constants from `begin` (float32 [N, inputs]) to `out`: x W + b per layer, `Relu` between layers."""
    nodes, constants, flow = [], [], begin
    for index, (weights, offsets) in enumerate(layers):
        constants += [
            constant(f"W_{index}", weights.astype(np.float32)),
            constant(f"b_{index}", offsets.astype(np.float32)),
        ]
        last = index == len(layers) - 1
        sums = out if last else f"sums_{index}"
        nodes.append(helper.make_node("Gemm", [flow, f"W_{index}", f"b_{index}"], [sums]))
        if not last:
            flow = f"flow_{index + 1}"
            nodes.append(helper.make_node("Relu", [sums], [flow]))
    return nodes, constants


def expand_binary(weights: Array, offsets: Array) -> tuple[Array, Array]:
    """The last layer with one score per class: for two classes scikit-learn stores only the second; the first score is
    0.
    """
    if weights.shape[1] > 1:
        return weights, offsets
    return np.hstack([np.zeros_like(weights), weights]), np.array([0.0, offsets[0]])


def classifier(
    schema: Schema,
    nodes: Sequence[NodeProto],
    constants: Sequence[TensorProto],
    scores: str,
    classes: Sequence[str],
    more: Sequence[ValueInfoProto] = (),
) -> bytes:
    """A checked graph of `nodes`, which compute `scores` (logits, float32 [N, classes]) of `classes`.

    Adds the outputs `probabilities` (softmax) and `label` (the class with the largest score). `more` are further
    outputs.
    """
    last, names, outputs = classifier_outputs(scores, classes)
    return build_model(schema, [*nodes, *last], [*constants, *names], [*outputs, *more])


def constant_model(schema: Schema, values: Mapping[str, Array]) -> bytes:
    """A checked graph that returns the same outputs for every row: each of `values` (of one row) under its name."""
    nodes = [
        helper.make_node("Shape", [schema.features[0].name], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["rows"]),
    ]
    constants = [constant("zero", np.array([0], np.int64)), constant("one", np.array([1], np.int64))]
    outputs = []
    for name, value in values.items():
        nodes += [
            helper.make_node("Concat", ["rows", f"{name}_ones"], [f"{name}_shape"], axis=0),
            helper.make_node("Expand", [f"{name}_said", f"{name}_shape"], [name]),
        ]
        constants += [constant(f"{name}_ones", np.ones(value.ndim, np.int64)), constant(f"{name}_said", value[None])]
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        outputs.append(helper.make_tensor_value_info(name, kind, [None, *value.shape]))
    return build_model(schema, nodes, constants, outputs)


def classifier_outputs(
    scores: str, classes: Sequence[str]
) -> tuple[list[NodeProto], list[TensorProto], list[ValueInfoProto]]:
    """Nodes, constants and outputs from scores (logits, float32 [N, classes]) to `label` and `probabilities`."""
    nodes = [
        helper.make_node("Softmax", [scores], ["probabilities"], axis=1),
        helper.make_node("ArgMax", [scores], ["winner"], axis=1, keepdims=0),
        helper.make_node("Gather", ["classes", "winner"], ["label"], axis=0),
    ]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.STRING, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, len(classes)]),
    ]
    return nodes, [numpy_helper.from_array(np.array(classes, dtype=object), "classes")], outputs


def build_model(
    schema: Schema,
    nodes: Sequence[NodeProto],
    constants: Sequence[TensorProto],
    outputs: Sequence[ValueInfoProto],
    *,
    opset: int = OPSET,
) -> bytes:
    """A checked graph with the schema's inputs; raises onnx.checker.ValidationError.

    Set `opset` for nodes that `OPSET` lacks.
    """
    onnx_graph = helper.make_graph(
        list(nodes),
        "model",
        [input_info(column) for column in schema.features],
        list(outputs),
        initializer=list(constants),
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    if any(node.domain == "com.microsoft" for node in nodes):
        opsets.append(helper.make_opsetid("com.microsoft", 1))
    model = helper.make_model(onnx_graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
