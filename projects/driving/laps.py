"""The evaluation: not how well the model imitates the expert, but how far it drives on its own."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image, ImageDraw

from phaseflow import Project
from projects.driving.simulator import LOOKS, SIDE, Car, Road, drive, road

Array = npt.NDArray[Any]
Predict = Callable[[pl.DataFrame], Mapping[str, Array]]
"""The model: from rows of the schema's features to the graph's outputs."""

FIRST: Final = 1_000_000
"""Number of the first evaluation road, larger than that of any demonstration."""
GAMES: Final = 8
"""Number of roads per look."""
ZOOM: Final = 2
TICK: Final = 60
"""Milliseconds between two frames of the film."""


def rollout(predict: Predict, rows: pl.DataFrame, project: Project) -> tuple[dict[str, Array], pl.DataFrame]:
    """Drive `GAMES` unseen roads of each look that occurs in `rows`; `project.seed` selects the roads.

    Returns `lap`, the share of each lap before the car left the road [G], and the roads' names and looks [G].
    """
    first = FIRST + GAMES * project.seed
    names = [f"{look}-{first + number}" for look in sorted(set(looks(rows)) or LOOKS) for number in range(GAMES)]
    cars = [Car.start(road(name)) for name in names]
    drive(cars, steering(predict))
    laps = np.array([car.share for car in cars])
    return {"lap": laps}, pl.DataFrame({"road": names, "look": [name.partition("-")[0] for name in names]})


def looks(rows: pl.DataFrame) -> list[str]:
    """Return the looks of the roads of rows [N], in their order.

    Clients may send any road name; names without a look of the simulator are skipped.
    """
    prefixes = [str(name).partition("-")[0] for name in rows["road"].drop_nulls()]
    return [look for look in prefixes if look in LOOKS]


def steering(predict: Predict) -> Callable[[Sequence[Car]], Sequence[float]]:
    """Return the model as a steering policy."""

    def steer(cars: Sequence[Car]) -> list[float]:
        views = pl.Series("image", [car.view().tobytes() for car in cars], dtype=pl.Binary)
        rows = pl.DataFrame([views, pl.Series("road", [car.road.name for car in cars])])
        return [float(action) for action in predict(rows)["action"].reshape(-1)]

    return steer


def evaluate(
    outputs: Mapping[str, Array],
    games: pl.DataFrame,  # noqa: ARG001  # the contract's signature
    project: Project,  # noqa: ARG001
) -> dict[str, float | None]:
    """Return the mean share of a lap, and the share of completed laps."""
    laps = outputs["lap"]
    return {"lap": float(laps.mean()), "finished": float((laps >= 1).mean())}


def film(predict: Predict, track: Road) -> bytes:
    """Record one lap as a GIF: the road from above with the car's path, and the car's view in the corner."""
    path: list[tuple[float, float]] = []
    frames: list[Image.Image] = []
    background = Image.fromarray(track.pixels).resize((SIDE * ZOOM, SIDE * ZOOM), Image.Resampling.NEAREST)

    def record(cars: Sequence[Car]) -> None:
        (car,) = cars
        path.append((car.position[0] * ZOOM, car.position[1] * ZOOM))
        frame = background.copy()
        draw = ImageDraw.Draw(frame)
        draw.line(path, fill=(255, 120, 0), width=3)
        draw.circle(path[-1], 5, fill=(220, 30, 30))
        frame.paste(Image.fromarray(car.view()).resize((96, 96), Image.Resampling.NEAREST), (SIDE - 48, SIDE - 48))
        frames.append(frame.quantize(64))

    car = Car.start(track)
    drive([car], steering(predict), record)
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1::2], duration=TICK, loop=0)
    return content.getvalue()
