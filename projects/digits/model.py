"""A small convolutional network, and logistic regression to hold it against: one loop teaches both."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from phaseflow import Candidate, Project
from phaseflow.toolkit import device, exporting, graph, pictures
from phaseflow.toolkit.model import Trained
from phaseflow.toolkit.training import descend
from projects.digits.data import SIDE

CLASSES: Final = tuple("0123456789")
SHOWN: Final = 10
TOGETHER: Final = 8
"""Images that are moved in the same way: one call for each image would take longer than to learn from it."""


def block(before: int, after: int) -> nn.Sequential:
    """A 3 x 3 convolution, then the largest of each 2 x 2: half the side, `after` kinds of strokes."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.MaxPool2d(2), nn.ReLU()
    )


def network(name: str) -> nn.Module:
    """Scores [N, 10] of pixels of 0 to 1 [N, 1, 28, 28]."""
    if name == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, len(CLASSES)))
    side = SIDE // 4
    return nn.Sequential(
        block(1, 16), block(16, 32), nn.Flatten(), nn.Dropout(0.25), nn.Linear(32 * side * side, len(CLASSES))
    )


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N]; its parameters are `network`, `epochs`, `rate`, and whether to `augment`."""
    told = candidate.params
    place = device.choose(project.seed)
    images = torch.from_numpy(graph.pixels(rows["image"], (1, SIDE, SIDE)).copy()).to(place.torch)
    truth = torch.tensor([CLASSES.index(digit) for digit in rows["digit"]], device=place.torch)
    model = network(told["network"])
    # Another hand, a little askew, a little smaller, not quite in the middle: the same digit. Not mirrored: that is none.
    augment = v2.RandomAffine(degrees=10, translate=(0.08, 0.08), scale=(0.9, 1.1))

    def loss(chosen: Tensor) -> Tensor:
        batch = images[chosen]
        if told.get("augment") and model.training:
            batch = torch.cat([augment(few) for few in batch.split(TOGETHER)])
        return nn.functional.cross_entropy(model(batch.float() / 255), truth[chosen])

    curves = descend(
        model, loss, len(images), place, epochs=told["epochs"], rate=told["rate"], batch=64, seed=project.seed
    )
    shown = rows.unique("digit", keep="first", maintain_order=True).sort("digit").head(SHOWN)
    example = {"image": torch.zeros(2, SIDE, SIDE, 1, dtype=torch.uint8)}
    return Trained(
        onnx=exporting.classifier(exporting.OfBytes(model), example, CLASSES),
        classes=CLASSES,
        pictures={
            "learning_curve.png": pictures.curve("Learning curve", "epoch", "cross-entropy", curves),
            "saliency.png": saliency(model.cpu(), shown),
        },
        notes={
            "device": place.name,
            "weights": f"{sum(weight.numel() for weight in model.parameters()):,}",
        },
    )


def saliency(model: nn.Module, rows: pl.DataFrame) -> bytes:
    """Rows of images, and below each the pixels that its score depends on most, as a PNG.

    The slope of the winning score by each pixel (Simonyan et al., Deep Inside Convolutional Networks, 2014).
    """
    images = torch.from_numpy(graph.pixels(rows["image"], (1, SIDE, SIDE)).copy()).float() / 255
    images.requires_grad_()
    torch.autograd.backward(model(images).max(dim=1).values.sum())
    assert images.grad is not None  # noqa: S101  # backward has just filled it
    figure, panels = pictures.grid(2, len(images), (9, 2.1))
    for place, image in enumerate(images.detach()[:, 0]):
        panels[place].imshow(image, cmap="gray")
        panels[len(images) + place].imshow(np.abs(images.grad[place, 0]), cmap="inferno")
    return pictures.png(figure)
