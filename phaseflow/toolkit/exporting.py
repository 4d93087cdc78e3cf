"""From a PyTorch module to the ONNX file that is served."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence

import onnx
import torch
from onnx import NodeProto, TensorProto, ValueInfoProto
from torch import Tensor, nn

from phaseflow.toolkit.graph import IR_VERSION, ends

OPSET = 18
"""The oldest that PyTorch's exporter writes by itself."""


def exported(module: nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str]) -> onnx.ModelProto:
    """The module as a graph whose first dimension, the rows, is free; `inputs` are examples of two rows, by name.

    Raises torch.onnx.OnnxExporterError for what has no form in ONNX.
    """
    rows = torch.export.Dim("rows", min=1)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it tells of each of its steps
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            module.cpu().eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=[{0: rows} for _ in inputs],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert made is not None  # noqa: S101  # without a file's name it gives the program
    model: onnx.ModelProto = made.model_proto
    return model


def finished(
    model: onnx.ModelProto,
    nodes: Sequence[NodeProto] = (),
    constants: Sequence[TensorProto] = (),
    outputs: Sequence[ValueInfoProto] = (),
) -> bytes:
    """The graph with further nodes and, where given, other outputs; raises onnx.checker.ValidationError."""
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    if outputs:
        del model.graph.output[:]
        model.graph.output.extend(outputs)
    model.ir_version = IR_VERSION
    # Where each node came from in the Python code is half of the file.
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del part.metadata_props[:]
    for node in model.graph.node:
        node.ClearField("doc_string")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def classifier(module: nn.Module, inputs: dict[str, Tensor], classes: Sequence[str]) -> bytes:
    """A module that gives scores (logits) [N, classes], as a graph that answers `label` and `probabilities`."""
    return finished(exported(module, inputs, ["scores"]), *ends("scores", classes))
