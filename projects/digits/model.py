"""A small convolutional network, and two baselines: logistic regression and nearest neighbours."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from phaseflow import Candidate, Project
from phaseflow.toolkit import device as devices
from phaseflow.toolkit import exporting, graph, neighbours, pictures
from phaseflow.toolkit.model import Trained
from phaseflow.toolkit.training import train_loop
from projects.digits.data import SIDE

CLASSES: Final = tuple("0123456789")
PICTURE_ROWS: Final = 10
MAX_PER_CLASS: Final = 200
"""Reference images per digit. If there are more, as in MNIST, the centres of their clusters are used."""
AUGMENT_BATCH: Final = 8
"""Number of images that share a random augmentation: one call per image would take longer than the training step."""


def block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Build a 3 x 3 convolution followed by 2 x 2 max pooling, which halves the side."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.MaxPool2d(2),
        nn.ReLU(),
    )


def network(name: str) -> nn.Module:
    """Build the network from pixels of 0 to 1 [N, 1, 28, 28] to scores [N, 10]."""
    if name == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, len(CLASSES)))
    side = SIDE // 4
    return nn.Sequential(
        block(1, 16), block(16, 32), nn.Flatten(), nn.Dropout(0.25), nn.Linear(32 * side * side, len(CLASSES))
    )


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N]; its parameters are `network`, `epochs`, `rate`, and whether to `augment`."""
    params = candidate.params
    if candidate.name == "nearest_neighbours":
        return neighbours.fit(rows, project.schema, CLASSES, max_rows=MAX_PER_CLASS, seed=project.seed, **params)
    device = devices.choose(project.seed)
    images = torch.from_numpy(graph.pixels(rows["image"], (1, SIDE, SIDE)).copy()).to(device.torch)
    label = torch.tensor([CLASSES.index(digit) for digit in rows["digit"]], device=device.torch)
    model = network(params["network"])
    # Small rotations, shifts and scalings do not change the digit. Mirroring would.
    augment = v2.RandomAffine(degrees=10, translate=(0.08, 0.08), scale=(0.9, 1.1))

    def loss(indices: Tensor) -> Tensor:
        batch = images[indices]
        if params.get("augment") and model.training:
            batch = torch.cat([augment(group) for group in batch.split(AUGMENT_BATCH)])
        return nn.functional.cross_entropy(model(batch.float() / 255), label[indices])

    curves = train_loop(
        model, loss, len(images), device, epochs=params["epochs"], rate=params["rate"], batch=64, seed=project.seed
    )
    examples = rows.unique("digit", keep="first", maintain_order=True).sort("digit").head(PICTURE_ROWS)
    example = {"image": torch.zeros(2, SIDE, SIDE, 1, dtype=torch.uint8)}
    return Trained(
        onnx=exporting.classifier(exporting.OfBytes(model), example, CLASSES),
        classes=CLASSES,
        pictures={
            "learning_curve.png": pictures.curve("Learning curve", "epoch", "cross-entropy", curves),
            "saliency.png": saliency(model.cpu(), examples),
        },
        notes={
            "device": device.name,
            "weights": f"{sum(weight.numel() for weight in model.parameters()):,}",
        },
    )


def saliency(model: nn.Module, rows: pl.DataFrame) -> bytes:
    """Draw images, and below each the pixels that its score depends on most; return a PNG.

    Saliency is the gradient of the highest score by pixel (Simonyan et al., Deep Inside Convolutional Networks, 2014).
    """
    images = torch.from_numpy(graph.pixels(rows["image"], (1, SIDE, SIDE)).copy()).float() / 255
    images.requires_grad_()
    torch.autograd.backward(model(images).max(dim=1).values.sum())
    assert images.grad is not None  # noqa: S101  # backward has set it
    figure, panels = pictures.grid(2, len(images), (9, 2.1))
    for index, image in enumerate(images.detach()[:, 0]):
        panels[index].imshow(image, cmap="gray")
        panels[len(images) + index].imshow(np.abs(images.grad[index, 0]), cmap="inferno")
    return pictures.png(figure)
