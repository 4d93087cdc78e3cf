"""A convolutional detector, and two baselines: a linear detector of edges, and the same boxes for every image."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Final

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from phaseflow import Candidate, Project
from phaseflow.toolkit import device as devices
from phaseflow.toolkit import exporting, graph, pictures
from phaseflow.toolkit.model import Trained
from phaseflow.toolkit.training import train_loop
from projects.detection import edges, grid, suppression
from projects.detection.drawing import draw
from projects.detection.project import CLASSES, SHAPE

PICTURE_ROWS: Final = 8


def step(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Build a 3 x 3 convolution; a stride of 2 halves the side."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def network() -> nn.Sequential:
    """Build the network from pixels of 0 to 1 [N, 3, 64, 64] to grids [N, CHANNELS, 8, 8].

    The receptive field of a cell is 47 pixels wide.
    """
    last = nn.Conv2d(64, grid.CHANNELS, 1)
    with torch.no_grad():
        assert last.bias is not None  # noqa: S101  # for the type checker
        last.bias[0] = -4.0  # start with a low objectness, since almost all cells are empty
    return nn.Sequential(step(3, 16, 2), step(16, 32, 2), step(32, 64, 2), step(64, 64, 1), step(64, 64, 1), last)


class Served(nn.Module):
    """The network for serving: bytes [N, 64, 64, 3] in, every cell's box, score and class out."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = exporting.OfBytes(inner)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return box, score and class of each cell."""
        return grid.decode(self.inner(image))


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of images and their boxes."""
    target = project.schema.target
    assert target is not None  # noqa: S101  # the declaration has one
    things = rows[target.name]
    if candidate.name == "always_the_same":
        return Trained(onnx=constant(things, project))
    params = candidate.params
    images = torch.from_numpy(graph.pixels(rows["image"], SHAPE).copy()).permute(0, 3, 1, 2)
    grids = grid.encode(things)
    if candidate.name == "edges":
        return export(edges.fit(images, grids, **params), rows, project)
    device = devices.choose(project.seed)
    images = images.to(device.torch)
    label = grid.Grids(*(tensor.to(device.torch) for tensor in (grids.objectness, grids.box, grids.label, grids.mask)))
    model = network()

    def loss(indices: Tensor) -> Tensor:
        batch, mirrored = images[indices].float() / 255, None
        if model.training:  # augmentation: mirror images, and change their brightness
            mirrored = torch.rand(len(indices), device=device.torch) < 0.5
            batch[mirrored] = batch[mirrored].flip(-1)
            batch = batch * (0.8 + 0.4 * torch.rand(len(indices), 1, 1, 1, device=device.torch))
        return grid.loss(model(batch), label.select(indices, mirrored))

    curves = train_loop(
        model, loss, len(images), device, epochs=params["epochs"], rate=params["rate"], batch=16, seed=project.seed
    )
    trained = export(model, rows, project)
    curve = pictures.curve("Learning curve", "epoch", "loss of a box", curves)
    return replace(
        trained,
        pictures={"learning_curve.png": curve, **trained.pictures},
        notes={"device": device.name, **trained.notes},
    )


def export(model: nn.Module, rows: pl.DataFrame, project: Project) -> Trained:
    """Export a network for serving, with a picture of its predictions for the first of rows [N]."""
    example = {"image": torch.zeros(2, *SHAPE, dtype=torch.uint8)}
    cells = exporting.exported(Served(model), example, ["cell_boxes", "cell_scores", "cell_labels"])
    content = exporting.finished(cells, suppression.nodes(), suppression.constants(), suppression.outputs())
    return Trained(
        onnx=content,
        pictures={"boxes.png": draw(content, rows.head(PICTURE_ROWS), project)},
        notes={"weights": f"{sum(weight.numel() for weight in model.parameters()):,}"},
    )


def constant(things: pl.Series, project: Project) -> bytes:
    """Build a graph that predicts the average box of each class for every image; its score is the class's frequency."""
    objects = [thing for text in things for thing in json.loads(text) if not thing.get("difficult")]
    frequent = Counter(thing["label"] for thing in objects).most_common(suppression.MAX_BOXES)
    means = [np.mean([thing["box"] for thing in objects if thing["label"] == name], axis=0) for name, _ in frequent]
    shares = [count / len(things) for _, count in frequent]
    outputs = {
        "boxes": np.array(means, np.float32),
        "scores": np.minimum(np.array(shares, np.float32), 1),
        "labels": np.array([CLASSES.index(name) for name, _ in frequent], np.int64),
    }
    return graph.constant_model(project.schema, outputs)
