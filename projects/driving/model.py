"""A network that steers by what it sees, and the baseline that never moves the wheel."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from phaseflow import Candidate, Project
from phaseflow.toolkit import device, exporting, graph, pictures
from phaseflow.toolkit.model import Trained
from phaseflow.toolkit.training import descend
from projects.driving.laps import FIRST, film, looks
from projects.driving.simulator import LOOKS, VIEW, road


def network() -> nn.Sequential:
    """Steering [N, 1] of -1 to 1 from pixels of 0 to 1 [N, 3, 32, 32], after Bojarski et al., End to End Learning (2016)."""

    def step(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]

    side = VIEW // 8
    return nn.Sequential(
        *step(3, 8), *step(8, 16), *step(16, 32), nn.Flatten(),
        nn.Linear(32 * side * side, 32), nn.ReLU(), nn.Linear(32, 1), nn.Tanh(),
    )  # fmt: skip


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Learn from rows [N] what the expert did; by a loss, though it is laps that count."""
    steer = np.array([json.loads(one) for one in rows["steer"]], np.float32)
    if candidate.name == "constant_steering":
        return Trained(
            onnx=graph.repeated(project.schema, {"action": steer.mean(axis=0)}),
            notes={"steers": f"{steer.mean():+.3f} always"},
        )
    told, place = candidate.params, device.choose(project.seed)
    images = torch.from_numpy(graph.pixels(rows["image"], (VIEW, VIEW, 3)).copy()).permute(0, 3, 1, 2).to(place.torch)
    truth = torch.from_numpy(steer).to(place.torch)
    model = network()

    def loss(chosen: Tensor) -> Tensor:
        batch, wanted = images[chosen].float() / 255, truth[chosen]
        if model.training:  # in a mirror every left turn is one to the right
            mirrored = torch.rand(len(chosen), device=place.torch) < 0.5
            batch[mirrored] = batch[mirrored].flip(-1)
            wanted = torch.where(mirrored[:, None], -wanted, wanted)
        return nn.functional.mse_loss(model(batch), wanted)

    curves = descend(
        model, loss, len(images), place, epochs=told["epochs"], rate=told["rate"], batch=32, seed=project.seed
    )
    example = {"image": torch.zeros(2, VIEW, VIEW, 3, dtype=torch.uint8)}
    content = exporting.finished(exporting.exported(exporting.OfBytes(model), example, ["action"]))
    ready = graph.session(content)
    newest = [*LOOKS, *looks(rows)][-1]
    return Trained(
        onnx=content,
        pictures={
            "learning_curve.png": pictures.curve("Learning curve", "epoch", "squared error of the wheel", curves),
            "lap.gif": film(lambda seen: graph.run(ready, graph.feed(seen, project.schema)), road(f"{newest}-{FIRST}")),
        },
        notes={"device": place.name, "weights": f"{sum(weight.numel() for weight in model.parameters()):,}"},
    )
