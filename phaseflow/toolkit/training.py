"""The training loop of the PyTorch projects: one optimizer step per shuffled batch, and mean losses per epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from phaseflow.toolkit.device import Device

VALIDATION_SHARE: Final = 0.1
"""Share of the training rows that is held back for validation, so that the learning curve shows overfitting."""

Loss = Callable[[Tensor], Tensor]
"""Maps the indices of a batch of rows [B] to their mean loss. The network is in `train` or `eval` mode accordingly."""


def train_loop(
    network: nn.Module, loss: Loss, rows: int, device: Device, *, epochs: int, rate: float, batch: int, seed: int
) -> dict[str, list[float]]:
    """Train a network on `rows` rows; returns the mean loss per epoch of the training rows and of the rows held back.

    Uses AdamW with a learning rate that rises to `rate` and falls to 0 (Smith and Topin, Super-Convergence, 2019).
    """
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(rows, generator=random)
    validation_count = min(round(rows * VALIDATION_SHARE), rows - 1)
    validation, training = order[:validation_count], order[validation_count:]
    steps = -(-len(training) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=epochs * steps)
    curves: dict[str, list[float]] = {"training rows": [], "rows held back": []}
    network.to(device.torch)
    for _ in range(epochs):
        network.train()
        total = 0.0
        shuffled = training[torch.randperm(len(training), generator=random)]
        for batch_rows in shuffled.split(batch):
            optimizer.zero_grad()
            with device.precision():
                batch_loss = loss(batch_rows.to(device.torch))
            device.backward(batch_loss, optimizer)
            schedule.step()
            total += float(batch_loss.detach()) * len(batch_rows)
        curves["training rows"].append(total / len(training))
        if validation_count:
            curves["rows held back"].append(_mean(network, loss, validation.split(batch), device))
    network.eval()
    return {name: values for name, values in curves.items() if values}


def _mean(network: nn.Module, loss: Loss, batches: Any, device: Device) -> float:
    network.eval()
    with torch.no_grad(), device.precision():
        values = [(float(loss(batch_rows.to(device.torch))), len(batch_rows)) for batch_rows in batches]
    return sum(value * count for value, count in values) / sum(count for _, count in values)
