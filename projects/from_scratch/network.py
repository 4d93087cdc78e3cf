"""A neural network in NumPy: forward pass, backward pass, and gradient descent.

A layer is a matrix `W` [inputs, outputs] and a vector `b` [outputs]. Without a hidden layer the network is a linear or
a logistic regression, depending on the loss; with one it is a multilayer perceptron.
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
"""From scores [N, K] and one-hot labels [N, K] to the loss and its gradient with respect to the scores [N, K]."""


def start(sizes: list[int], random: np.random.Generator) -> Layers:
    """Random layers from `sizes[0]` inputs to `sizes[-1]` scores.

    Their standard deviation preserves the variance of the activations (He et al., Delving Deep into Rectifiers, 2015).
    """
    return [
        (random.normal(0, np.sqrt(2 / before), (before, after)), np.zeros(after)) for before, after in pairwise(sizes)
    ]


def forward(layers: Layers, inputs: Array) -> list[Array]:
    """The input of each layer and, last, the scores [N, K]: `x W + b`, with negative values set to 0 between layers."""
    flows = [inputs]
    for index, (weights, bias) in enumerate(layers):
        sums = flows[-1] @ weights + bias
        flows.append(sums if index == len(layers) - 1 else np.maximum(sums, 0))
    return flows


def backward(layers: Layers, flows: list[Array], slope: Array) -> Layers:
    """The gradients of all layers by the chain rule; `slope` is the gradient of the loss with respect to the scores [N,
    K].
    """
    gradients: Layers = []
    for index in reversed(range(len(layers))):
        weights, _ = layers[index]
        gradients.append((flows[index].T @ slope, slope.sum(axis=0)))
        # A unit that was set to 0 did not change the loss.
        slope = (slope @ weights.T) * (flows[index] > 0) if index else slope
    return gradients[::-1]


def softmax(scores: Array) -> Array:
    """Scores as probabilities [N, K]; subtracts the largest score first, because exp(1000) overflows."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def squared_error(scores: Array, labels: Array) -> tuple[float, Array]:
    """Half the mean squared distance to the labels: the loss of linear regression."""
    gap = scores - labels
    return float((gap**2).sum() / 2 / len(gap)), gap / len(gap)


def cross_entropy(scores: Array, labels: Array) -> tuple[float, Array]:
    """The mean of -log(probability of the label): the loss of logistic regression."""
    probabilities = softmax(scores)
    surprise = -np.log(np.maximum((probabilities * labels).sum(axis=1), 1e-300))
    return float(surprise.sum()) / len(labels), (probabilities - labels) / len(labels)


def train_loop(
    layers: Layers,
    inputs: Array,
    labels: Array,
    loss: Loss,
    *,
    epochs: int,
    rate: float,
    random: np.random.Generator,
    batch: int = 32,
    momentum: float = 0.9,
    decay: float = 0.0,
) -> tuple[Layers, list[float]]:
    """Layers after `epochs` epochs of gradient descent on shuffled rows [N], and the mean loss of each epoch.

    A step follows the negative gradient of a batch plus `momentum` times the previous step (Polyak, 1964); `decay` is
    the weight decay.
    """
    layers = [(weights.copy(), bias.copy()) for weights, bias in layers]
    speeds: list[Any] = [(np.zeros_like(weights), np.zeros_like(bias)) for weights, bias in layers]
    history = []
    for _ in range(epochs):
        total = 0.0
        order = random.permutation(len(inputs))
        shuffled_inputs, shuffled_labels = inputs[order], labels[order]  # copied once, so that batches are views
        for begin in range(0, len(order), batch):
            batch_labels = shuffled_labels[begin : begin + batch]
            flows = forward(layers, shuffled_inputs[begin : begin + batch])
            value, slope = loss(flows[-1], batch_labels)
            total += value * len(batch_labels)
            for index, (weight_slopes, bias_slopes) in enumerate(backward(layers, flows, slope)):
                weights, bias = layers[index]
                weight_speeds, bias_speeds = speeds[index]
                decayed_slopes = weight_slopes + decay * weights if decay else weight_slopes
                speeds[index] = (
                    momentum * weight_speeds - rate * decayed_slopes,
                    momentum * bias_speeds - rate * bias_slopes,
                )
                layers[index] = (weights + speeds[index][0], bias + speeds[index][1])
        history.append(total / len(inputs))
    return layers, history
