"""A linear detector: histograms of oriented gradients around each cell, with one weight per histogram value.

Dalal and Triggs, Histograms of Oriented Gradients for Human Detection (2005), with ridge regression in place of the
support vector machine. The weights have a closed form, so that no iterative training is needed.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from projects.detection import grid
from projects.detection.project import CLASSES

ANGLES: Final = 8
"""Edge directions over the full circle, so that a bright object on a dark background differs from the reverse."""
BLOCK: Final = 4
"""Side of the square that one histogram covers, in pixels."""
WINDOW: Final = 12
"""Side of the window around a cell, in blocks: 48 pixels, the size of the largest objects."""
BATCH_SIZE: Final = 32
"""Number of images whose windows are in memory at once."""


class Histograms(nn.Module):
    """Edge histograms [N, ANGLES, 16, 16] of images [N, 3, 64, 64] with pixels of 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        angles = [2 * math.pi * index / ANGLES for index in range(ANGLES)]
        across = torch.tensor([[-1.0, 0.0, 1.0]] * 3) / 3
        # One filter per direction: the slope of the brightness in that direction.
        filters = [math.cos(angle) * across + math.sin(angle) * across.T for angle in angles]
        self.register_buffer("filters", torch.stack(filters)[:, None].expand(-1, 3, -1, -1) / 3)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return each block's strength of each direction, normalized by the total strength around the block."""
        filters: Tensor = self.get_buffer("filters")
        rises = nn.functional.conv2d(nn.functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), filters).relu()
        counts = nn.functional.avg_pool2d(rises, BLOCK)
        around = nn.functional.avg_pool2d(counts.sum(dim=1, keepdim=True), 3, stride=1, padding=1)
        return (counts / (around + 0.02)).sqrt()


def network() -> nn.Sequential:
    """Build the network from pixels of 0 to 1 to grids [N, CHANNELS, 8, 8].

    The weighted sum over the window around each cell is a convolution.
    """
    stride = grid.PIXELS // BLOCK
    return nn.Sequential(
        Histograms(), nn.Conv2d(ANGLES, grid.CHANNELS, WINDOW, stride=stride, padding=(WINDOW - stride) // 2)
    )


@torch.no_grad()
def fit(images: Tensor, label: grid.Grids, alpha: float) -> nn.Sequential:
    """Fit the network to images (uint8 [N, 3, 64, 64]), their mirror images, and their grids, in closed form."""
    model = network()
    stride = grid.PIXELS // BLOCK
    windows = nn.Unfold(WINDOW, stride=stride, padding=(WINDOW - stride) // 2)
    size = ANGLES * WINDOW**2 + 1
    objectness_sums, box_sums = _Sums(size, 1), _Sums(size, grid.CHANNELS - 1)
    batches: list[tuple[Tensor, Tensor]] = []
    for indices in torch.arange(len(images)).split(BATCH_SIZE):
        for mirrored in (False, True):
            batch = images[indices].float() / 255
            features = windows(model[0](batch.flip(-1) if mirrored else batch)).transpose(1, 2).reshape(-1, size - 1)
            features = torch.cat([features, torch.ones(len(features), 1)], dim=1)
            grids = label.select(indices, torch.full((len(indices),), mirrored))
            objectness, mask = grids.objectness.flatten(), grids.mask.flatten() > 0
            objectness_sums.add(features[mask], objectness[mask, None])
            centre = torch.logit(grids.box[:, :2], eps=0.02)
            class_scores = nn.functional.one_hot(grids.label, len(CLASSES)).permute(0, 3, 1, 2) * CLASS_SCORE
            targets = torch.cat([centre, grids.box[:, 2:], class_scores], dim=1).permute(0, 2, 3, 1).flatten(0, 2)
            box_sums.add(features[objectness > 0], targets[objectness > 0])
            batches.append((features[mask], objectness[mask]))
    score_weights = objectness_sums.solve(alpha).float()
    # The linear score of a cell is not a probability yet: calibrate it (Platt 1999).
    scores = torch.cat([features @ score_weights for features, _ in batches]).numpy()
    calibration = LogisticRegression(C=1e6).fit(scores, torch.cat([objectness for _, objectness in batches]).numpy())
    score_weights = score_weights * float(calibration.coef_[0, 0])
    score_weights[-1] += float(calibration.intercept_[0])
    weights = torch.cat([score_weights, box_sums.solve(alpha).float()], dim=1).T
    last = model[1]
    assert isinstance(last, nn.Conv2d)  # noqa: S101  # as `network` built it
    assert last.bias is not None  # noqa: S101  # likewise
    last.weight.copy_(weights[:, :-1].reshape(last.weight.shape))
    last.bias.copy_(weights[:, -1])
    return model


CLASS_SCORE: Final = 6.0
"""Target score of an object's class; the target of the other classes is 0."""


class _Sums:
    """The sums that ridge regression needs: X'X and X'Y. They fit in memory even if X does not."""

    def __init__(self, size: int, outputs: int) -> None:
        self.inner: npt.NDArray[np.float64] = np.zeros((size, size))
        self.cross: npt.NDArray[np.float64] = np.zeros((size, outputs))

    def add(self, rows: Tensor, targets: Tensor) -> None:
        self.inner += (rows.T @ rows).numpy()
        self.cross += (rows.T @ targets).numpy()

    def solve(self, alpha: float) -> Tensor:
        """Return the weights. The last one is the intercept, which is not penalized."""
        penalty = np.full(len(self.inner), alpha)
        penalty[-1] = 1e-9
        return torch.from_numpy(np.linalg.solve(self.inner + np.diag(penalty), self.cross))
