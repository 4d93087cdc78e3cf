"""Gradients match PyTorch's autograd, in the environment that has PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from projects.from_scratch import network

RANDOM = np.random.default_rng(3)
INPUTS = RANDOM.normal(size=(40, 6))
NAMES = RANDOM.integers(0, 4, 40)
LABELS = np.eye(4)[NAMES]


@pytest.mark.parametrize("kind", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("sizes", [[6, 4], [6, 9, 4], [6, 8, 5, 4]])
def test_backward_matches_autograd(kind: str, sizes: list[int]) -> None:
    layers = network.start(sizes, np.random.default_rng(1))
    flows = network.forward(layers, INPUTS)
    value, slope = getattr(network, kind)(flows[-1], LABELS)
    gradients = network.backward(layers, flows, slope)
    tensors = [[torch.tensor(part, requires_grad=True) for part in layer] for layer in layers]
    flow = torch.tensor(INPUTS)
    for index, (weights, bias) in enumerate(tensors):
        flow = flow @ weights + bias
        flow = flow if index == len(tensors) - 1 else torch.relu(flow)
    if kind == "cross_entropy":
        loss = torch.nn.functional.cross_entropy(flow, torch.tensor(NAMES))
    else:
        loss = ((flow - torch.tensor(LABELS)) ** 2).sum() / 2 / len(INPUTS)
    loss.backward()
    assert value == pytest.approx(loss.item(), abs=1e-12)
    for layer_gradients, layer_tensors in zip(gradients, tensors, strict=True):
        for gradient, tensor in zip(layer_gradients, layer_tensors, strict=True):
            np.testing.assert_allclose(gradient, tensor.grad, atol=1e-12)
