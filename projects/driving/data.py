"""What an expert did, picture by picture."""

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
"""How strongly the wheel is pulled out of the expert's hands."""


def demonstrations(names: list[str], random: np.random.Generator) -> pl.DataFrame:
    """A lap of the expert on each road: `image`, `road`, and `steer` as JSON.

    The wheel is pulled now and then, and the expert's answer to that is what is written down: without it nobody would ever
    see how to come back (Laskey et al., DART, 2017).
    """
    rows = []
    for name in names:
        where = road(name)
        car, push = Car.start(where, int(random.integers(len(where.line)))), 0.0
        for _ in range(round(len(where.line) / SPEED)):
            if car.over:  # pushed off the road: put back into its middle
                car, push = Car.start(where, car.point), 0.0
            steer = car.expert()
            rows.append((car.view().tobytes(), name, json.dumps([round(steer, 4)], separators=(",", ":"))))
            push = 0.8 * push + random.normal(0, PUSH)
            car.move(steer + push)
    return pl.DataFrame(rows, schema={"image": pl.Binary, "road": pl.String, "steer": pl.String}, orient="row")


def sample(seed: int) -> bytes:
    """Laps on `ROADS` roads of asphalt, as NumPy's archive of pictures, roads and steering."""
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
    """The archive's rows."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        images: npt.NDArray[np.uint8] = archive["image"]
        steer = [json.dumps([round(float(one), 4) for one in row], separators=(",", ":")) for row in archive["steer"]]
        return pl.DataFrame(
            {
                "image": pl.Series([one.tobytes() for one in images], dtype=pl.Binary),
                "road": pl.Series(archive["road"].tolist(), dtype=pl.String),
                "steer": pl.Series(steer, dtype=pl.String),
            }
        )


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """The columns are the schema's already."""
    return raw
