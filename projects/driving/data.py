"""Demonstrations of an expert: what it saw, and how it steered."""

from __future__ import annotations

import io
import json
from typing import Any, Final

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from projects.driving.simulator import SPEED, VIEW, Car, road

ROADS: Final = 8
PUSH: Final = 0.25
"""Standard deviation of the noise that disturbs the expert's steering."""


def demonstrations(names: list[str], random: np.random.Generator) -> pl.DataFrame:
    """Record one lap of the expert on each road: `image`, `road`, and `steer` as JSON.

    Noise disturbs the steering, and the expert's corrections are recorded. Otherwise the data would not show how to
    recover from errors (Laskey et al., DART, 2017).
    """
    rows = []
    for name in names:
        track = road(name)
        car, push = Car.start(track, int(random.integers(len(track.line)))), 0.0
        for _ in range(round(len(track.line) / SPEED)):
            if car.over:  # off the road: put back into its middle
                car, push = Car.start(track, car.point), 0.0
            steer = car.expert()
            rows.append((car.view().tobytes(), name, json.dumps([round(steer, 4)], separators=(",", ":"))))
            push = 0.8 * push + random.normal(0, PUSH)
            car.move(steer + push)
    return pl.DataFrame(rows, schema={"image": pl.Binary, "road": pl.String, "steer": pl.String}, orient="row")


def sample(seed: int) -> bytes:
    """Record laps on `ROADS` asphalt roads, as a NumPy archive of images, roads and steering."""
    random = np.random.default_rng(seed)
    rows = demonstrations([f"asphalt-{number}" for number in random.integers(0, 10_000, ROADS)], random)
    content = io.BytesIO()
    np.savez(
        content,
        image=np.frombuffer(b"".join(rows["image"]), np.uint8).reshape(-1, VIEW, VIEW, 3),
        road=np.array(rows["road"].to_list()),
        steer=np.array([json.loads(steer) for steer in rows["steer"]], np.float32),
    )
    return content.getvalue()


def read(content: bytes) -> pl.DataFrame:
    """Read the rows of the archive."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        images: npt.NDArray[np.uint8] = archive["image"]
        steer = [
            json.dumps([round(float(value), 4) for value in row], separators=(",", ":")) for row in archive["steer"]
        ]
        return pl.DataFrame(
            {
                "image": pl.Series([image.tobytes() for image in images], dtype=pl.Binary),
                "road": pl.Series(archive["road"].tolist(), dtype=pl.String),
                "steer": pl.Series(steer, dtype=pl.String),
            }
        )


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """Return `raw` unchanged: its columns already match the schema."""
    return raw
