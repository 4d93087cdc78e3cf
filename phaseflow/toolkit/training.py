"""The loop in which every PyTorch project learns: batches in random order, a step downhill each, and how it went by epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from phaseflow.toolkit.device import Device

HELD: Final = 0.1
"""Share of the training rows that teach nothing, so that the learning curve shows when a network only remembers."""

Loss = Callable[[Tensor], Tensor]
"""Of the numbers of some rows [B]: their mean loss. The network is in `train` mode where they teach, in `eval` where not."""


def descend(
    network: nn.Module, loss: Loss, rows: int, place: Device, *, epochs: int, rate: float, batch: int, seed: int
) -> dict[str, list[float]]:
    """Teach a network by `rows` rows; gives the mean loss of each epoch, of the rows that teach and of those held back.

    AdamW, whose rate rises to `rate` and falls to 0 (Smith and Topin, Super-Convergence, 2019).
    """
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(rows, generator=random)
    held = min(round(rows * HELD), rows - 1)
    kept, taught = order[:held], order[held:]
    steps = -(-len(taught) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=epochs * steps)
    curves: dict[str, list[float]] = {"rows that teach": [], "rows held back": []}
    network.to(place.torch)
    for _ in range(epochs):
        network.train()
        total = 0.0
        shuffled = taught[torch.randperm(len(taught), generator=random)]
        for chosen in shuffled.split(batch):
            optimizer.zero_grad()
            with place.precision():
                value = loss(chosen.to(place.torch))
            place.backward(value, optimizer)
            schedule.step()
            total += float(value.detach()) * len(chosen)
        curves["rows that teach"].append(total / len(taught))
        if held:
            curves["rows held back"].append(_mean(network, loss, kept.split(batch), place))
    network.eval()
    return {name: values for name, values in curves.items() if values}


def _mean(network: nn.Module, loss: Loss, batches: Any, place: Device) -> float:
    network.eval()
    with torch.no_grad(), place.precision():
        values = [(float(loss(chosen.to(place.torch))), len(chosen)) for chosen in batches]
    return sum(value * count for value, count in values) / sum(count for _, count in values)
