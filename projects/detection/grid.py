"""Encoding of boxes as a grid of numbers, which a network can predict, and decoding of the grid.

The image is divided into `CELLS` x `CELLS` cells. The cell that contains a box's centre represents the box: whether
there is an object, where in the cell its centre is, its size, and its class. YOLO: Redmon et al., You Only Look Once
(2016), with one box per cell.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from projects.detection.project import CLASSES, SHAPE

CELLS: Final = 8
PIXELS: Final = SHAPE[0] // CELLS
"""Side of a cell, in pixels."""
CHANNELS: Final = 5 + len(CLASSES)
"""Numbers per cell: objectness, the centre's x and y, the logarithms of width and height, then one score per class."""


@dataclass(frozen=True, slots=True)
class Grids:
    """The labels of images [N] as grids."""

    objectness: Tensor
    """[N, 1, CELLS, CELLS]: 1 for cells with the centre of a box, else 0."""
    box: Tensor
    """[N, 4, CELLS, CELLS]: the centre as a share of the cell, and the logarithm of width and height in cells."""
    label: Tensor
    """[N, CELLS, CELLS]: the index of the class."""
    mask: Tensor
    """[N, 1, CELLS, CELLS]: 0 for cells with the centre of a difficult object, which the loss skips; else 1."""

    def select(self, rows: Tensor, mirrored: Tensor | None = None) -> Grids:
        """Select some rows; `mirrored` says for each whether to swap left and right."""
        objectness, box, label, mask = self.objectness[rows], self.box[rows], self.label[rows], self.mask[rows]
        if mirrored is not None:
            for tensor in (objectness, box, label, mask):
                tensor[mirrored] = tensor[mirrored].flip(-1)
            # The loss ignores the centres of empty cells.
            box[mirrored, 0] = 1 - box[mirrored, 0]
        return Grids(objectness, box, label, mask)


def encode(things: pl.Series) -> Grids:
    """Encode the boxes (JSON) of N images as grids.

    If two centres share a cell, the later box wins; a difficult one never replaces another.
    """
    objectness = torch.zeros(len(things), 1, CELLS, CELLS)
    box = torch.zeros(len(things), 4, CELLS, CELLS)
    label = torch.zeros(len(things), CELLS, CELLS, dtype=torch.long)
    mask = torch.ones(len(things), 1, CELLS, CELLS)
    for row, text in enumerate(things):
        for thing in json.loads(text):
            left, top, width, height = (side / PIXELS for side in thing["box"])
            x, y = left + width / 2, top + height / 2
            column, line = min(int(x), CELLS - 1), min(int(y), CELLS - 1)
            if thing.get("difficult"):
                mask[row, 0, line, column] = 0
                continue
            objectness[row, 0, line, column] = 1
            box[row, :, line, column] = torch.tensor([x - column, y - line, np.log(width), np.log(height)])
            label[row, line, column] = CLASSES.index(thing["label"])
    return Grids(objectness, box, label, torch.maximum(mask, objectness))


def decode(channels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Decode every cell's box [N, CELLS², 4] (left, top, width, height in pixels), score and class [N, CELLS²]."""
    flat = channels.flatten(2).transpose(1, 2)
    objectness, centre, size, classes = flat.split([1, 2, 2, len(CLASSES)], dim=2)
    cells = torch.arange(CELLS * CELLS, device=channels.device)
    corners = torch.stack([cells % CELLS, cells // CELLS], dim=1)
    sides = size.clamp(max=2.5).exp() * PIXELS
    middle = (corners + centre.sigmoid()) * PIXELS
    shares = classes.softmax(dim=2)
    scores = objectness.sigmoid()[..., 0] * shares.max(dim=2).values
    return torch.cat([middle - sides / 2, sides], dim=2), scores, shares.argmax(dim=2)


def loss(channels: Tensor, label: Grids) -> Tensor:
    """Return the loss of grids [N, CHANNELS, CELLS, CELLS]: objectness in every cell, box and class in occupied ones.

    Most cells are empty and easy; focal loss keeps them from dominating the sum (Lin et al., 2017).
    """
    objectness, centre, size, classes = channels.split([1, 2, 2, len(CLASSES)], dim=1)
    cross_entropy = nn.functional.binary_cross_entropy_with_logits(objectness, label.objectness, reduction="none")
    focal_loss = ((1 - torch.exp(-cross_entropy)) ** 2 * cross_entropy * label.mask).sum()
    occupied = label.objectness[:, 0] > 0
    count = occupied.sum().clamp(min=1)
    predicted = torch.cat([centre.sigmoid(), size], dim=1).permute(0, 2, 3, 1)[occupied]
    box_loss = nn.functional.smooth_l1_loss(
        predicted, label.box.permute(0, 2, 3, 1)[occupied], beta=0.1, reduction="sum"
    )
    class_loss = nn.functional.cross_entropy(
        classes.permute(0, 2, 3, 1)[occupied], label.label[occupied], reduction="sum"
    )
    return (4 * focal_loss + 2 * box_loss + class_loss) / count
