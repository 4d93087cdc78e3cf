"""Export fails if the graph's outputs differ from the network's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from phaseflow.errors import PhaseflowError
from phaseflow.toolkit import exporting

EXAMPLE = {"image": torch.zeros(2, 4, 4, 1, dtype=torch.uint8)}


class Summing(nn.Module):
    """Sums an image's pixels; if `forgetful`, the result differs in every call."""

    def __init__(self, *, forgetful: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.times: Iterator[int] = itertools.count(1) if forgetful else itertools.repeat(1)

    def forward(self, image: Tensor) -> Tensor:
        return image.float().sum(dim=(1, 2, 3)) * self.weight * next(self.times)


def test_export_does_not_change_the_module() -> None:
    module = Summing(forgetful=False).train()
    assert exporting.exported(module, EXAMPLE, ["sum"]).graph.output[0].name == "sum"
    assert module.training


def test_a_graph_that_differs_is_an_error() -> None:
    with pytest.raises(
        PhaseflowError,
        match=r"The ONNX model's sum differ from PyTorch's by .* allowed: 1e-03\. Export in single precision",
    ):
        exporting.exported(Summing(forgetful=True), EXAMPLE, ["sum"])
