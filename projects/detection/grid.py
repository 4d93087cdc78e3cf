"""Boxes as a grid of numbers, which a network can say, and back.

The image is cut into `CELLS` x `CELLS` cells. The cell that holds a box's centre answers for it: that there is a thing, where in
the cell its centre is, how large it is, and what it is. YOLO, Redmon et al., You Only Look Once (2016), with one box a cell.
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
"""Side of a cell."""
NUMBERS: Final = 5 + len(CLASSES)
"""Of a cell: is it one, centre across and down, width, height (as logarithms), then a score for each class."""


@dataclass(frozen=True, slots=True)
class Grids:
    """The truth of images [N]."""

    there: Tensor
    """[N, 1, CELLS, CELLS]: 1 where a box has its centre."""
    box: Tensor
    """[N, 4, CELLS, CELLS]: the centre as a share of the cell, and the logarithm of width and height in cells."""
    label: Tensor
    """[N, CELLS, CELLS]: the class's number."""

    def of(self, rows: Tensor, mirrored: Tensor | None = None) -> Grids:
        """Some rows; `mirrored` says of each whether left and right are exchanged."""
        there, box, label = self.there[rows], self.box[rows], self.label[rows]
        if mirrored is not None:
            there[mirrored], box[mirrored], label[mirrored] = (part[mirrored].flip(-1) for part in (there, box, label))
            # Where a cell holds nothing its centre is not asked for.
            box[mirrored, 0] = 1 - box[mirrored, 0]
        return Grids(there, box, label)


def encoded(things: pl.Series) -> Grids:
    """The grids of N images' boxes (JSON); of two centres in one cell the later one stays."""
    there = torch.zeros(len(things), 1, CELLS, CELLS)
    box = torch.zeros(len(things), 4, CELLS, CELLS)
    label = torch.zeros(len(things), CELLS, CELLS, dtype=torch.long)
    for row, text in enumerate(things):
        for thing in json.loads(text):
            left, top, wide, high = (side / PIXELS for side in thing["box"])
            across, down = left + wide / 2, top + high / 2
            column, line = min(int(across), CELLS - 1), min(int(down), CELLS - 1)
            there[row, 0, line, column] = 1
            box[row, :, line, column] = torch.tensor([across - column, down - line, np.log(wide), np.log(high)])
            label[row, line, column] = CLASSES.index(thing["label"])
    return Grids(there, box, label)


def decoded(numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every cell's box [N, CELLS², 4] (left, top, width, height in pixels), score [N, CELLS²] and class [N, CELLS²]."""
    flat = numbers.flatten(2).transpose(1, 2)
    there, centre, size, classes = flat.split([1, 2, 2, len(CLASSES)], dim=2)
    places = torch.arange(CELLS * CELLS, device=numbers.device)
    corners = torch.stack([places % CELLS, places // CELLS], dim=1)
    sides = size.clamp(max=2.5).exp() * PIXELS
    middle = (corners + centre.sigmoid()) * PIXELS
    shares = classes.softmax(dim=2)
    scores = there.sigmoid()[..., 0] * shares.max(dim=2).values
    return torch.cat([middle - sides / 2, sides], dim=2), scores, shares.argmax(dim=2)


def loss(numbers: Tensor, truth: Grids) -> Tensor:
    """How wrong the grids [N, NUMBERS, CELLS, CELLS] are: in every cell whether there is a thing, in its cells where and what.

    Most cells are empty and soon certain; focal loss keeps them from outvoting the others (Lin et al., 2017).
    """
    there, centre, size, classes = numbers.split([1, 2, 2, len(CLASSES)], dim=1)
    surprise = nn.functional.binary_cross_entropy_with_logits(there, truth.there, reduction="none")
    focal = ((1 - torch.exp(-surprise)) ** 2 * surprise).sum()
    held = truth.there[:, 0] > 0
    count = held.sum().clamp(min=1)
    where = torch.cat([centre.sigmoid(), size], dim=1).permute(0, 2, 3, 1)[held]
    place = nn.functional.smooth_l1_loss(where, truth.box.permute(0, 2, 3, 1)[held], beta=0.1, reduction="sum")
    what = nn.functional.cross_entropy(classes.permute(0, 2, 3, 1)[held], truth.label[held], reduction="sum")
    return (4 * focal + 2 * place + what) / count
