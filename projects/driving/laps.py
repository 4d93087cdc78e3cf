"""The judgement: not how well the expert is imitated, but how far the car comes by itself."""

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
Ask = Callable[[pl.DataFrame], Mapping[str, Array]]
"""The model: the graph's outputs for rows of the schema's features."""

FIRST: Final = 1_000_000
"""Number of the first road that is driven in judgement: no demonstration has one so large."""
GAMES: Final = 8
"""Roads of each look."""
ZOOM: Final = 2
TICK: Final = 60
"""Milliseconds between two pictures."""


def play(ask: Ask, rows: pl.DataFrame, project: Project) -> tuple[dict[str, Array], pl.DataFrame]:
    """Drive `GAMES` roads that nobody has seen, of each look that is among the roads of `rows`; other ones for another `project.seed`.

    Gives `lap`, the share of the lap before the car left the road [G], and the roads' names [G].
    """
    first = FIRST + GAMES * project.seed
    names = [f"{look}-{first + number}" for look in sorted(set(looks(rows)) or LOOKS) for number in range(GAMES)]
    cars = [Car.start(road(name)) for name in names]
    drive(cars, steering(ask))
    laps = np.array([car.share for car in cars])
    return {"lap": laps}, pl.DataFrame({"road": names, "look": [name.partition("-")[0] for name in names]})


def looks(rows: pl.DataFrame) -> list[str]:
    """How the roads of rows [N] look, the oldest first, without those that the simulator does not know: clients name them freely."""
    named = [str(name).partition("-")[0] for name in rows["road"].drop_nulls()]
    return [look for look in named if look in LOOKS]


def steering(ask: Ask) -> Callable[[Sequence[Car]], Sequence[float]]:
    """The model as who holds the wheel."""

    def steer(cars: Sequence[Car]) -> list[float]:
        views = pl.Series("image", [car.view().tobytes() for car in cars], dtype=pl.Binary)
        rows = pl.DataFrame([views, pl.Series("road", [car.road.name for car in cars])])
        return [float(one) for one in ask(rows)["action"].reshape(-1)]

    return steer


def evaluate(said: Mapping[str, Array], games: pl.DataFrame, project: Project) -> dict[str, float | None]:  # noqa: ARG001  # the contract's
    """The mean share of a lap, and the share of laps that were driven to the end."""
    laps = said["lap"]
    return {"lap": float(laps.mean()), "finished": float((laps >= 1).mean())}


def film(ask: Ask, where: Road) -> bytes:
    """One lap as a GIF: the road from above with the car's way, and in the corner what the car sees."""
    way: list[tuple[float, float]] = []
    frames: list[Image.Image] = []
    world = Image.fromarray(where.pixels).resize((SIDE * ZOOM, SIDE * ZOOM), Image.Resampling.NEAREST)

    def watch(cars: Sequence[Car]) -> None:
        (car,) = cars
        way.append((car.position[0] * ZOOM, car.position[1] * ZOOM))
        frame = world.copy()
        draw = ImageDraw.Draw(frame)
        draw.line(way, fill=(255, 120, 0), width=3)
        draw.circle(way[-1], 5, fill=(220, 30, 30))
        frame.paste(Image.fromarray(car.view()).resize((96, 96), Image.Resampling.NEAREST), (SIDE - 48, SIDE - 48))
        frames.append(frame.quantize(64))

    car = Car.start(where)
    drive([car], steering(ask), watch)
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1::2], duration=TICK, loop=0)
    return content.getvalue()
