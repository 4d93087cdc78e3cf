"""Export of PyTorch modules to the ONNX file that is served."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnx
import torch
from onnx import NodeProto, TensorProto, ValueInfoProto
from torch import Tensor, nn

from phaseflow import generation
from phaseflow.errors import PhaseflowError
from phaseflow.toolkit.graph import IR_VERSION, classifier_outputs, session

OPSET = 18
"""The oldest opset that PyTorch's exporter writes without a conversion."""
GAP = 1e-3
"""Maximum accepted difference between an output of the graph and PyTorch's, relative to its largest value."""


class OfBytes(nn.Module):
    """Adapts a network on pixels of 0 to 1 [N, channels, height, width] to bytes [N, height, width, channels]."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, image: Tensor) -> Tensor:
        """The inner network's output for pixels of 0 to 255, channels last."""
        output: Tensor = self.inner(image.permute(0, 3, 1, 2).float() / 255)
        return output


def exported(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: Sequence[str],
    *,
    second: str = "",
    other: Mapping[str, Tensor] | None = None,
) -> onnx.ModelProto:
    """The module as an ONNX graph with any number of rows; `inputs` are examples of two rows, by name.

    `second` names the second dimension of the inputs if it is dynamic too. The module itself stays on its device.

    Raises torch.onnx.OnnxExporterError if an operation has no ONNX equivalent, and PhaseflowError if graph and module
    differ on the `other` inputs. By default these are three rows: random bytes for images, else rows of the example.
    """
    module = copy.deepcopy(module).cpu().eval()
    dynamic_shape = {0: torch.export.Dim("rows", min=1)} | ({1: torch.export.Dim(second, min=1)} if second else {})
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # the exporter prints each of its steps
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=[dynamic_shape for _ in inputs],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # noqa: S101  # export returns None only if it writes a file
    model: onnx.ModelProto = program.model_proto
    _check_parity(module, model, other or {name: _random_input(example) for name, example in inputs.items()})
    return model


def _random_input(example: Tensor) -> Tensor:
    """Three rows with the example's shape: random bytes, or rows of the example."""
    if example.dtype == torch.uint8:
        return torch.randint(
            0, 256, (3, *example.shape[1:]), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
    return example[[1, 0, 1]]


@torch.no_grad()
def _check_parity(module: nn.Module, model: onnx.ModelProto, inputs: Mapping[str, Tensor]) -> None:
    """Raise PhaseflowError if the outputs of graph and module differ by more than `GAP`."""
    tensors = module(*inputs.values())
    tensors = [tensors] if isinstance(tensors, Tensor) else tensors
    names = [output.name for output in model.graph.output]
    feeds = {name: value.numpy() for name, value in inputs.items()}
    outputs = session(model.SerializeToString()).run(names, feeds)
    for name, actual, expected in zip(names, outputs, tensors, strict=True):
        if not expected.is_floating_point():  # chosen by such numbers, such as an index: a tie may go either way
            continue
        max_value = float(np.abs(expected.numpy()).max(initial=1e-9))
        gap = float(np.abs(actual - expected.numpy()).max(initial=0.0)) / max_value
        if not gap <= GAP:
            raise PhaseflowError(
                f"The ONNX model's {name} differ from PyTorch's by {gap:.1e} of the largest; allowed: {GAP:.0e}",
                fix="Export in single precision, in evaluation mode, and without branches that depend on the data",
            )


def finished(
    model: onnx.ModelProto,
    nodes: Sequence[NodeProto] = (),
    constants: Sequence[TensorProto] = (),
    outputs: Sequence[ValueInfoProto] = (),
    about: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """The serialised graph with additional nodes and, if given, other outputs; raises onnx.checker.ValidationError.

    `about` becomes the metadata of the file.
    """
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    if outputs:
        del model.graph.output[:]
        model.graph.output.extend(outputs)
    model.ir_version = IR_VERSION
    # The Python source locations of the nodes would be half of the file.
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del part.metadata_props[:]
    for node in model.graph.node:
        node.ClearField("doc_string")
    onnx.helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def classifier(module: nn.Module, inputs: dict[str, Tensor], classes: Sequence[str]) -> bytes:
    """A module that returns scores (logits) [N, classes], as a graph with the outputs `label` and `probabilities`."""
    return finished(exported(module, inputs, ["scores"]), *classifier_outputs("scores", classes))


def language_model(module: nn.Module, tokenizer: str, settings: generation.Settings) -> bytes:
    """A module from ids (int64 [N, T]) to the next token's scores [N, vocabulary], for `phaseflow.generation`.

    `tokenizer` is the content of a `tokenizer.json`. Raises PhaseflowError if graph and module differ on other ids of
    another length.
    """
    ids = torch.tensor([[3, 5, 7, 2, 4], [2, 9, 4, 8, 6]])
    other = torch.tensor([[2, 3, 4, 5, 6, 7, 8], [9, 8, 7, 6, 5, 4, 3], [4, 4, 2, 2, 9, 9, 3]])
    with torch.no_grad():
        model = exported(
            module, {generation.IDS: ids}, [generation.SCORES], second="tokens", other={generation.IDS: other}
        )
    return finished(model, about=generation.metadata(settings, tokenizer))
