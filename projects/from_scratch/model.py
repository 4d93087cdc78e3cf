"""Three models trained by the same few lines, and nearest neighbours; exported to ONNX node by node."""

from __future__ import annotations

import numpy as np
import polars as pl
from onnx import TensorProto, helper

from phaseflow import Candidate, Project
from phaseflow.toolkit import graph, neighbours, pictures
from phaseflow.toolkit.model import Trained
from projects.from_scratch import network
from projects.from_scratch.data import SIDE
from projects.from_scratch.network import Layers

LOSSES = {
    "linear_regression": network.squared_error,
    "logistic_regression": network.cross_entropy,
    "perceptron": network.cross_entropy,
}
CLASSES = tuple("0123456789")
MAX_PER_CLASS = 1000
"""Maximum images per digit for nearest neighbours, which limits the size of the file."""


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of images and digits; `hidden` is the width of the hidden layer, 0 for none."""
    if candidate.name == "nearest_neighbours":
        return neighbours.fit(
            rows, project.schema, CLASSES, max_rows=MAX_PER_CLASS, seed=project.seed, **candidate.params
        )
    params = dict(candidate.params)
    hidden = params.pop("hidden", 0)
    random = np.random.default_rng(project.seed)
    images = graph.pixels(rows["image"], (SIDE * SIDE,)) / 255.0
    labels = (rows["digit"].to_numpy()[:, None] == np.array(CLASSES)).astype(np.float64)
    sizes = [SIDE * SIDE, *([hidden] if hidden else []), len(CLASSES)]
    layers = network.start(sizes, random)
    layers, history = network.train_loop(layers, images, labels, LOSSES[candidate.name], random=random, **params)
    return Trained(
        onnx=to_onnx(layers, project),
        classes=CLASSES,
        pictures={
            "learning_curve.png": pictures.curve("Loss", "epoch", "mean of the training rows", {"": history}),
            "weights.png": weights(layers),
        },
        notes={
            "loss of the last epoch": f"{history[-1]:.4f}",
            "weights": f"{sum(w.size + b.size for w, b in layers):,}",
        },
    )


def to_onnx(layers: Layers, project: Project) -> bytes:
    """The layers as a graph: pixels to numbers, then one `Gemm` (x W + b) per layer, with `Relu` between layers."""
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["numbers", "white"], ["shares"]),
        helper.make_node("Flatten", ["shares"], ["flow"], axis=1),
    ]
    scoring, layer_constants = graph.dense(layers, "flow", "scores")
    white = graph.constant("white", np.float32(255))
    return graph.classifier(project.schema, [*nodes, *scoring], [white, *layer_constants], "scores", CLASSES)


def weights(layers: Layers) -> bytes:
    """A plot (PNG) of the weights of each unit in the first layer: positive weights are red, negative ones blue."""
    matrix = layers[0][0]
    units = min(matrix.shape[1], 30)
    down = -(-units // 10)
    figure, panels = pictures.grid(down, 10, (8, 0.9 * down))
    limit = np.abs(matrix).max()
    for unit, panel in zip(range(units), panels, strict=False):
        panel.imshow(matrix[:, unit].reshape(SIDE, SIDE), cmap="RdBu_r", vmin=-limit, vmax=limit)
    return pictures.png(figure)
