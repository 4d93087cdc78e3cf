"""The served graph: what goes into it, what comes out, and the ends that every hand-made one shares.

An ONNX graph has one input a feature: float32 [N, 1] for numbers, integers and booleans (missing is NaN), uint8
[N, height, width, channels] for images, text [N, 1] for the rest (missing is ""). What it answers is in `phaseflow.answers`; it may tell `contributions` [N, features]: how much each feature spoke for the answer.
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

from phaseflow import generation
from phaseflow.contract import Column, Schema
from phaseflow.errors import PhaseflowError

NUMERIC: Final = frozenset({"number", "integer", "boolean"})
OPSET: Final = 17
IR_VERSION: Final = 10
"""The newest that every supported onnxruntime reads."""

Array = npt.NDArray[Any]


def pixels(images: pl.Series, shape: tuple[int, ...]) -> Array:
    """A column of images as uint8 [N, *shape]; raises ValueError where one is missing or has another size."""
    if images.null_count():
        raise ValueError(f"{images.null_count()} images of {images.name} are missing")
    return np.frombuffer(b"".join(images.to_list()), np.uint8).reshape(len(images), *shape)


def feed(rows: pl.DataFrame, schema: Schema) -> dict[str, Array]:
    """The graph's inputs for rows [N] of the schema's features."""
    return {column.name: _input(rows[column.name], column) for column in schema.features}


def _input(values: pl.Series, column: Column) -> Array:
    if column.kind == "image":
        return pixels(values, column.shape)
    if column.kind in NUMERIC:
        return values.cast(pl.Float32).fill_null(float("nan")).to_numpy().reshape(-1, 1)
    return np.array(values.cast(pl.String).fill_null("").to_list(), dtype=object).reshape(-1, 1)


Session: TypeAlias = "onnxruntime.InferenceSession | generation.Generator"


def session(content: bytes) -> Session:
    """The model, ready to run on one thread as in the service; nothing is sent to anyone."""
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    found: Session = generation.ready(
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    )
    return found


def run(model: bytes | Session, feeds: dict[str, Array]) -> dict[str, Array]:
    """The graph's outputs by name."""
    ready = session(model) if isinstance(model, bytes) else model
    names: Sequence[str] = [output.name for output in ready.get_outputs()]
    wanted = {node.name for node in ready.get_inputs()}  # a feature that no tree asks for has no input
    return dict(zip(names, ready.run(names, {k: v for k, v in feeds.items() if k in wanted}), strict=True))


def alike(gap: float, allowed: float, what: str, *, fix: str) -> None:
    """Raises PhaseflowError where a converted model differs from scikit-learn's by more than is allowed, or by no number."""
    if not gap <= allowed:
        raise PhaseflowError(
            f"The ONNX model's {what} differs from scikit-learn's by {gap:.1e}; allowed: {allowed:.0e}", fix=fix
        )


def constant(name: str, values: Any) -> TensorProto:
    """A named constant of a graph: numbers of numpy's type, or texts."""
    return numpy_helper.from_array(np.asarray(values), name)


def entry(column: Column) -> ValueInfoProto:
    """The graph's input of a column."""
    if column.kind == "image":
        return helper.make_tensor_value_info(column.name, TensorProto.UINT8, [None, *column.shape])
    kind = TensorProto.FLOAT if column.kind in NUMERIC else TensorProto.STRING
    return helper.make_tensor_value_info(column.name, kind, [None, 1])


def dense(layers: Sequence[tuple[Array, Array]], begin: str, out: str) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes and constants from `begin` (float32 [N, inputs]) to `out`: for each layer x W + b, `Relu` between two."""
    nodes, constants, flow = [], [], begin
    for place, (weights, offsets) in enumerate(layers):
        constants += [
            constant(f"W_{place}", weights.astype(np.float32)),
            constant(f"b_{place}", offsets.astype(np.float32)),
        ]
        last = place == len(layers) - 1
        sums = out if last else f"sums_{place}"
        nodes.append(helper.make_node("Gemm", [flow, f"W_{place}", f"b_{place}"], [sums]))
        if not last:
            flow = f"flow_{place + 1}"
            nodes.append(helper.make_node("Relu", [sums], [flow]))
    return nodes, constants


def every_class(weights: Array, offsets: Array) -> tuple[Array, Array]:
    """A last layer with a score a class: of two classes scikit-learn keeps the second one's alone, and the first one's is 0."""
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
    """A checked graph of `nodes` that ends in the scores (logits, float32 [N, classes]) of `classes`.

    Adds the ends: `probabilities` by softmax, and `label`, the name of the largest. `more` are further outputs.
    """
    last, names, outputs = ends(scores, classes)
    return built(schema, [*nodes, *last], [*constants, *names], [*outputs, *more])


def repeated(schema: Schema, answers: Mapping[str, Array]) -> bytes:
    """A checked graph that says the same of every row: each of `answers` (of one row) under its name."""
    nodes = [
        helper.make_node("Shape", [schema.features[0].name], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["rows"]),
    ]
    constants = [constant("zero", np.array([0], np.int64)), constant("one", np.array([1], np.int64))]
    outputs = []
    for name, value in answers.items():
        nodes += [
            helper.make_node("Concat", ["rows", f"{name}_ones"], [f"{name}_shape"], axis=0),
            helper.make_node("Expand", [f"{name}_said", f"{name}_shape"], [name]),
        ]
        constants += [constant(f"{name}_ones", np.ones(value.ndim, np.int64)), constant(f"{name}_said", value[None])]
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        outputs.append(helper.make_tensor_value_info(name, kind, [None, *value.shape]))
    return built(schema, nodes, constants, outputs)


def ends(scores: str, classes: Sequence[str]) -> tuple[list[NodeProto], list[TensorProto], list[ValueInfoProto]]:
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


def built(
    schema: Schema,
    nodes: Sequence[NodeProto],
    constants: Sequence[TensorProto],
    outputs: Sequence[ValueInfoProto],
) -> bytes:
    """A checked graph of the schema's inputs; raises onnx.checker.ValidationError."""
    made = helper.make_graph(
        list(nodes), "model", [entry(column) for column in schema.features], list(outputs), initializer=list(constants)
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)]
    if any(node.domain == "com.microsoft" for node in nodes):
        opsets.append(helper.make_opsetid("com.microsoft", 1))
    model = helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
