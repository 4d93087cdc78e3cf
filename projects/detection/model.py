"""A detector of five convolutions, and one that always says the same: the baseline."""

from __future__ import annotations

import json
from collections import Counter
from typing import Final

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from phaseflow import Candidate, Project
from phaseflow.toolkit import device, exporting, graph, pictures
from phaseflow.toolkit.model import Trained
from phaseflow.toolkit.training import descend
from projects.detection import grid, suppression
from projects.detection.drawing import drawn
from projects.detection.project import CLASSES, SHAPE

SHOWN: Final = 8


def step(before: int, after: int, stride: int) -> nn.Sequential:
    """A 3 x 3 convolution; with a stride of 2 half the side comes out."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


def network() -> nn.Sequential:
    """Grids [N, NUMBERS, 8, 8] of pixels of 0 to 1 [N, 3, 64, 64]: each cell sees 47 pixels around itself."""
    last = nn.Conv2d(64, grid.NUMBERS, 1)
    with torch.no_grad():
        assert last.bias is not None  # noqa: S101  # for the type checker
        last.bias[0] = -4.0  # at first no cell holds anything: almost none does
    return nn.Sequential(step(3, 16, 2), step(16, 32, 2), step(32, 64, 2), step(64, 64, 1), step(64, 64, 1), last)


class Served(nn.Module):
    """The network as a request needs it: bytes [N, 64, 64, 3] in, every cell's box, score and class out."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = exporting.OfBytes(inner)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What each cell of the grid says."""
        return grid.decoded(self.inner(image))


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of images and their boxes."""
    target = project.schema.target
    assert target is not None  # noqa: S101  # the declaration has one
    things = rows[target.name]
    if candidate.name == "always_the_same":
        return Trained(onnx=constant(things, project))
    told = candidate.params
    place = device.choose(project.seed)
    images = torch.from_numpy(graph.pixels(rows["image"], SHAPE).copy()).permute(0, 3, 1, 2).to(place.torch)
    grids = grid.encoded(things)
    truth = grid.Grids(*(part.to(place.torch) for part in (grids.there, grids.box, grids.label)))
    model = network()

    def loss(chosen: Tensor) -> Tensor:
        batch, mirrored = images[chosen].float() / 255, None
        if model.training:  # a mirrored car is a car, and so is one by another light
            mirrored = torch.rand(len(chosen), device=place.torch) < 0.5
            batch[mirrored] = batch[mirrored].flip(-1)
            batch = batch * (0.8 + 0.4 * torch.rand(len(chosen), 1, 1, 1, device=place.torch))
        return grid.loss(model(batch), truth.of(chosen, mirrored))

    curves = descend(
        model, loss, len(images), place, epochs=told["epochs"], rate=told["rate"], batch=16, seed=project.seed
    )
    example = {"image": torch.zeros(2, *SHAPE, dtype=torch.uint8)}
    cells = exporting.exported(Served(model), example, ["cell_boxes", "cell_scores", "cell_labels"])
    content = exporting.finished(cells, suppression.nodes(), suppression.constants(), suppression.outputs())
    return Trained(
        onnx=content,
        pictures={
            "learning_curve.png": pictures.curve("Learning curve", "epoch", "loss of a box", curves),
            "boxes.png": drawn(content, rows.head(SHOWN), project),
        },
        notes={"device": place.name, "weights": f"{sum(weight.numel() for weight in model.parameters()):,}"},
    )


def constant(things: pl.Series, project: Project) -> bytes:
    """A graph that says of each image the average box of each class, as surely as the class is frequent."""
    known = [thing for text in things for thing in json.loads(text)]
    frequent = Counter(thing["label"] for thing in known).most_common(suppression.MOST)
    means = [np.mean([one["box"] for one in known if one["label"] == name], axis=0) for name, _ in frequent]
    shares = [times / len(things) for _, times in frequent]
    said = {
        "boxes": np.array(means, np.float32),
        "scores": np.minimum(np.array(shares, np.float32), 1),
        "labels": np.array([CLASSES.index(name) for name, _ in frequent], np.int64),
    }
    return graph.repeated(project.schema, said)
