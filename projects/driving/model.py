"""A convolutional network that steers from pixels, and two baselines: ridge regression and constant steering."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from phaseflow import Candidate, Project
from phaseflow.toolkit import device as devices
from phaseflow.toolkit import exporting, graph, pictures
from phaseflow.toolkit.model import Trained
from phaseflow.toolkit.training import train_loop
from projects.driving import ridge
from projects.driving.laps import FIRST, film, looks
from projects.driving.simulator import LOOKS, VIEW, road


def network() -> nn.Sequential:
    """Build the network from pixels of 0 to 1 [N, 3, 32, 32] to steering of -1 to 1 [N, 1].

    The architecture follows Bojarski et al., End to End Learning for Self-Driving Cars (2016).
    """

    def step(in_channels: int, out_channels: int) -> list[nn.Module]:
        return [nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1), nn.ReLU()]

    side = VIEW // 8
    return nn.Sequential(
        *step(3, 8), *step(8, 16), *step(16, 32), nn.Flatten(),
        nn.Linear(32 * side * side, 32), nn.ReLU(), nn.Linear(32, 1), nn.Tanh(),
    )  # fmt: skip


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate to the expert's steering in rows [N]. It minimizes a loss, although laps are the metric."""
    steer = np.array([json.loads(text) for text in rows["steer"]], np.float32)
    if candidate.name == "constant_steering":
        return Trained(
            onnx=graph.constant_model(project.schema, {"action": steer.mean(axis=0)}),
            notes={"steers": f"{steer.mean():+.3f} always"},
        )
    if candidate.name == "ridge":
        return ridge.fit(rows, steer, project, **candidate.params)
    params, device = candidate.params, devices.choose(project.seed)
    images = torch.from_numpy(graph.pixels(rows["image"], (VIEW, VIEW, 3)).copy()).permute(0, 3, 1, 2).to(device.torch)
    label = torch.from_numpy(steer).to(device.torch)
    model = network()

    def loss(indices: Tensor) -> Tensor:
        batch, targets = images[indices].float() / 255, label[indices]
        if model.training:  # in a mirror image, every left turn becomes a right turn
            mirrored = torch.rand(len(indices), device=device.torch) < 0.5
            batch[mirrored] = batch[mirrored].flip(-1)
            targets = torch.where(mirrored[:, None], -targets, targets)
        return nn.functional.mse_loss(model(batch), targets)

    curves = train_loop(
        model, loss, len(images), device, epochs=params["epochs"], rate=params["rate"], batch=32, seed=project.seed
    )
    example = {"image": torch.zeros(2, VIEW, VIEW, 3, dtype=torch.uint8)}
    content = exporting.finished(exporting.exported(exporting.OfBytes(model), example, ["action"]))
    session = graph.session(content)
    newest = [*LOOKS, *looks(rows)][-1]
    return Trained(
        onnx=content,
        pictures={
            "learning_curve.png": pictures.curve("Learning curve", "epoch", "squared error of the wheel", curves),
            "lap.gif": film(
                lambda features: graph.run(session, graph.feed(features, project.schema)), road(f"{newest}-{FIRST}")
            ),
        },
        notes={"device": device.name, "weights": f"{sum(weight.numel() for weight in model.parameters()):,}"},
    )
