"""Three models of the same few lines, and their way to an ONNX file, node by node."""

from __future__ import annotations

import numpy as np
import polars as pl
from onnx import TensorProto, helper

from phaseflow import Candidate, Project
from phaseflow.toolkit import graph, pictures
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


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of images and digits; `hidden` is the width of its layer between, 0 for none."""
    told = dict(candidate.params)
    hidden = told.pop("hidden", 0)
    random = np.random.default_rng(project.seed)
    images = graph.pixels(rows["image"], (SIDE * SIDE,)) / 255.0
    truth = (rows["digit"].to_numpy()[:, None] == np.array(CLASSES)).astype(np.float64)
    sizes = [SIDE * SIDE, *([hidden] if hidden else []), len(CLASSES)]
    layers = network.start(sizes, random)
    layers, history = network.descend(layers, images, truth, LOSSES[candidate.name], random=random, **told)
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
    """The layers as a graph: pixels to numbers, then for each layer one `Gemm` (x W + b), with `Relu` between two."""
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["numbers", "white"], ["shares"]),
        helper.make_node("Flatten", ["shares"], ["flow"], axis=1),
    ]
    scoring, known = graph.dense(layers, "flow", "scores")
    white = graph.constant("white", np.float32(255))
    return graph.classifier(project.schema, [*nodes, *scoring], [white, *known], "scores", CLASSES)


def weights(layers: Layers) -> bytes:
    """What each unit of the first layer looks for, as a PNG: red pixels speak for it, blue ones against it."""
    matrix = layers[0][0]
    shown = min(matrix.shape[1], 30)
    down = -(-shown // 10)
    figure, panels = pictures.grid(down, 10, (8, 0.9 * down))
    limit = np.abs(matrix).max()
    for unit, panel in zip(range(shown), panels, strict=False):
        panel.imshow(matrix[:, unit].reshape(SIDE, SIDE), cmap="RdBu_r", vmin=-limit, vmax=limit)
    return pictures.png(figure)
