"""A network of layers in NumPy: forward, backward, and a step downhill. Nothing is hidden.

A layer is a matrix `W` [inputs, outputs] and a row `b` [outputs]. With no layer between the pixels and the scores this is linear
or logistic regression (which of both, the loss decides); with one it is a multilayer perceptron.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Layers = list[tuple[Array, Array]]
Loss = Callable[[Array, Array], tuple[float, Array]]
"""Of scores [N, K] and the truth as 0 and 1 [N, K]: the loss, and its gradient by the scores [N, K]."""


def start(sizes: list[int], random: np.random.Generator) -> Layers:
    """Random layers from `sizes[0]` inputs to `sizes[-1]` scores.

    The spread keeps the size of what flows through (He et al., Delving Deep into Rectifiers, 2015).
    """
    return [
        (random.normal(0, np.sqrt(2 / before), (before, after)), np.zeros(after)) for before, after in pairwise(sizes)
    ]


def forward(layers: Layers, inputs: Array) -> list[Array]:
    """What enters each layer, and at the end the scores [N, K]: `x W + b`, cut off below 0 between two layers."""
    flows = [inputs]
    for place, (weights, bias) in enumerate(layers):
        sums = flows[-1] @ weights + bias
        flows.append(sums if place == len(layers) - 1 else np.maximum(sums, 0))
    return flows


def backward(layers: Layers, flows: list[Array], slope: Array) -> Layers:
    """The gradient of every layer by the chain rule, from the loss's slope by the scores [N, K] back to the inputs."""
    gradients: Layers = []
    for place in reversed(range(len(layers))):
        weights, _ = layers[place]
        gradients.append((flows[place].T @ slope, slope.sum(axis=0)))
        # A unit that was cut off at 0 did not move the loss.
        slope = (slope @ weights.T) * (flows[place] > 0) if place else slope
    return gradients[::-1]


def softmax(scores: Array) -> Array:
    """Scores as probabilities [N, K]: positive, and 1 in sum. The largest is taken off first: exp(1000) is infinite."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def squared_error(scores: Array, truth: Array) -> tuple[float, Array]:
    """Half the mean squared distance to the truth: linear regression's."""
    gap = scores - truth
    return float((gap**2).sum() / 2 / len(gap)), gap / len(gap)


def cross_entropy(scores: Array, truth: Array) -> tuple[float, Array]:
    """The mean surprise, -log of the probability of what is true: logistic regression's. Its slope is as simple."""
    shares = softmax(scores)
    return float(-np.log(np.maximum((shares * truth).sum(axis=1), 1e-300)).mean()), (shares - truth) / len(truth)


def descend(
    layers: Layers,
    inputs: Array,
    truth: Array,
    loss: Loss,
    *,
    epochs: int,
    rate: float,
    random: np.random.Generator,
    batch: int = 32,
    momentum: float = 0.9,
    decay: float = 0.0,
) -> tuple[Layers, list[float]]:
    """Layers after `epochs` walks through rows [N] in random order, and the mean loss of each walk.

    A step goes down the gradient of a batch and keeps a share `momentum` of the step before it (Polyak, 1964); `decay`
    pulls the weights to 0.
    """
    layers = [(weights.copy(), bias.copy()) for weights, bias in layers]
    speeds: list[Any] = [(np.zeros_like(weights), np.zeros_like(bias)) for weights, bias in layers]
    history = []
    for _ in range(epochs):
        total = 0.0
        order = random.permutation(len(inputs))
        for begin in range(0, len(order), batch):
            chosen = order[begin : begin + batch]
            flows = forward(layers, inputs[chosen])
            value, slope = loss(flows[-1], truth[chosen])
            total += value * len(chosen)
            for place, (weights, bias) in enumerate(backward(layers, flows, slope)):
                mine, offset = layers[place]
                speed, drift = speeds[place]
                speeds[place] = (
                    momentum * speed - rate * (weights + decay * mine),
                    momentum * drift - rate * bias,
                )
                layers[place] = (mine + speeds[place][0], offset + speeds[place][1])
        history.append(total / len(inputs))
    return layers, history
