"""From a PyTorch module to the ONNX file that is served."""

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
from phaseflow.toolkit.graph import IR_VERSION, ends, session

OPSET = 18
"""The oldest that PyTorch's exporter writes by itself."""
GAP = 1e-3
"""Largest difference of a graph's output to PyTorch's that is accepted, relative to the largest value of that output."""


class OfBytes(nn.Module):
    """A network of pixels of 0 to 1 [N, channels, height, width] as a request needs it: bytes [N, height, width, channels] in."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, image: Tensor) -> Tensor:
        """Pixels of 0 to 255 as numbers of 0 to 1, channels first, as PyTorch wants them."""
        found: Tensor = self.inner(image.permute(0, 3, 1, 2).float() / 255)
        return found


def exported(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: Sequence[str],
    *,
    second: str = "",
    other: Mapping[str, Tensor] | None = None,
) -> onnx.ModelProto:
    """The module as a graph whose first dimension, the rows, is free; `inputs` are examples of two rows, by name.

    `second` names the inputs' second dimension where that is free too. The module itself stays on its device.

    Raises torch.onnx.OnnxExporterError for what has no form in ONNX, and PhaseflowError where graph and module differ on
    `other` inputs; without them on three rows, of random bytes, or of the example again.
    """
    module = copy.deepcopy(module).cpu().eval()
    free = {0: torch.export.Dim("rows", min=1)} | ({1: torch.export.Dim(second, min=1)} if second else {})
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it tells of each of its steps
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            module,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=[free for _ in inputs],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert made is not None  # noqa: S101  # without a file's name it gives the program
    model: onnx.ModelProto = made.model_proto
    _same(module, model, other or {name: _other(example) for name, example in inputs.items()})
    return model


def _other(example: Tensor) -> Tensor:
    """Three rows of the example's form."""
    if example.dtype == torch.uint8:
        return torch.randint(
            0, 256, (3, *example.shape[1:]), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
    return example[[1, 0, 1]]


@torch.no_grad()
def _same(module: nn.Module, model: onnx.ModelProto, inputs: Mapping[str, Tensor]) -> None:
    """Raise PhaseflowError where the graph says other numbers than the module."""
    expected = module(*inputs.values())
    ready = session(model.SerializeToString())
    names = [output.name for output in model.graph.output]
    said = ready.run(names, {name: value.numpy() for name, value in inputs.items()})
    for name, found, wanted in zip(names, said, [expected] if isinstance(expected, Tensor) else expected, strict=True):
        if not wanted.is_floating_point():  # what is chosen by such numbers; of two alike it may be either
            continue
        largest = float(np.abs(wanted.numpy()).max(initial=1e-9))
        gap = float(np.abs(found - wanted.numpy()).max(initial=0.0)) / largest
        if not gap <= GAP:
            raise PhaseflowError(
                f"The ONNX model's {name} differ from PyTorch's by {gap:.1e} of the largest; allowed: {GAP:.0e}",
                fix="Export in single precision, in evaluation mode, and without branches that hang on the data",
            )


def finished(
    model: onnx.ModelProto,
    nodes: Sequence[NodeProto] = (),
    constants: Sequence[TensorProto] = (),
    outputs: Sequence[ValueInfoProto] = (),
    about: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """The graph with further nodes and, where given, other outputs; raises onnx.checker.ValidationError.

    `about` is what the file says of itself.
    """
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
    onnx.helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def classifier(module: nn.Module, inputs: dict[str, Tensor], classes: Sequence[str]) -> bytes:
    """A module that gives scores (logits) [N, classes], as a graph that answers `label` and `probabilities`."""
    return finished(exported(module, inputs, ["scores"]), *ends("scores", classes))


def language_model(module: nn.Module, tokenizer: str, settings: generation.Settings) -> bytes:
    """A module from ids (int64 [N, T]) to the next token's scores [N, vocabulary], as a file that `phaseflow.generation` runs.

    `tokenizer` is the content of a `tokenizer.json`. Raises PhaseflowError where graph and module differ on other ids, of
    another length.
    """
    ids = torch.tensor([[3, 5, 7, 2, 4], [2, 9, 4, 8, 6]])
    other = torch.tensor([[2, 3, 4, 5, 6, 7, 8], [9, 8, 7, 6, 5, 4, 3], [4, 4, 2, 2, 9, 9, 3]])
    with torch.no_grad():
        model = exported(
            module, {generation.IDS: ids}, [generation.SCORES], second="tokens", other={generation.IDS: other}
        )
    return finished(model, about=generation.metadata(settings, tokenizer))
