"""A small driving simulator: closed roads seen from above, a car of constant speed, and an expert driver.

Lengths are in pixels; a time step is one image. A road's name determines it: its look and the seed of its course, as in
`asphalt-12`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline
from scipy.spatial import KDTree

Array = npt.NDArray[Any]

SIDE: Final = 192
"""Side of the map."""
VIEW: Final = 32
"""Side of the car's view: 26 pixels ahead, 5 behind, 16 to each side; ahead is up."""
SPEED: Final = 3.0
"""Pixels per step."""
TURN: Final = 0.25
"""Radians by which the car turns per step at full steering."""
AHEAD: Final = 12
"""Distance of the point that the expert aims at, in points of the line."""
CORNERS: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Colours (red, green, blue) and half the width of a road."""

    road: tuple[int, int, int]
    ground: tuple[int, int, int]
    half: float


LOOKS: Final = {
    "asphalt": Look(road=(85, 85, 90), ground=(95, 160, 70), half=6.0),
    "sand": Look(road=(235, 210, 150), ground=(60, 55, 75), half=5.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """A closed road."""

    name: str
    line: Array
    """[P, 2]: the centre line, one point per pixel, in driving direction."""
    tree: KDTree
    """Spatial index of the points of `line`."""
    pixels: Array
    """[SIDE, SIDE, 3], uint8: the map from above."""
    half: float
    """Half the width."""


@functools.lru_cache(maxsize=256)
def road(name: str) -> Road:
    """Return the road of that name; raise KeyError for a look that is not in `LOOKS`."""
    kind, _, seed = name.partition("-")
    look, random = LOOKS[kind], np.random.default_rng(int(seed))
    line = course(random)
    tree = KDTree(line)
    positions = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1)
    distance = tree.query(positions.reshape(-1, 2))[0].reshape(SIDE, SIDE)
    pixels = np.where((distance < look.half)[..., None], look.road, look.ground) + random.normal(0, 8, (SIDE, SIDE, 1))
    # White lines mark the edges of the road.
    pixels[np.abs(distance - look.half) < 0.7] = 225
    return Road(name=name, line=line, tree=tree, pixels=pixels.clip(0, 255).astype(np.uint8), half=look.half)


def course(random: np.random.Generator) -> Array:
    """Return a random closed spline around the map's middle, in either direction, as points one pixel apart [P, 2]."""
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False) + random.uniform(-0.15, 0.15, CORNERS)
    radii = random.uniform(50, 80, CORNERS)  # no bend is narrower than the car can turn
    corners = SIDE / 2 + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    spline = CubicSpline(np.arange(CORNERS + 1), np.vstack([corners, corners[:1]]), bc_type="periodic")
    fine = spline(np.linspace(0, CORNERS, 4000))
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(fine, axis=0).T))])
    even = np.arange(0, lengths[-1], 1.0)
    line = np.stack([np.interp(even, lengths, fine[:, axis]) for axis in (0, 1)], axis=1)
    return line[::-1].copy() if random.random() < 0.5 else line


@dataclass(slots=True)
class Car:
    """Position and progress of a car."""

    road: Road
    position: Array
    """[2]: x and y."""
    heading: float
    """Radians; 0 points right, and positive turns are to the right."""
    point: int
    """Index of the nearest point of the road's line."""
    driven: int = 0
    """Points of the line that the car has passed."""

    @classmethod
    def start(cls, track: Road, point: int = 0) -> Car:
        """Place a car on the road's centre line, in driving direction."""
        ahead = track.line[(point + 1) % len(track.line)] - track.line[point]
        return cls(track, track.line[point].copy(), float(np.arctan2(ahead[1], ahead[0])), point)

    def move(self, steer: float) -> None:
        """Drive one step; `steer` is -1 (left) to 1 (right)."""
        self.heading += float(np.clip(steer, -1, 1)) * TURN
        self.position = self.position + SPEED * np.array([np.cos(self.heading), np.sin(self.heading)])
        count = len(self.road.line)
        point = int(self.road.tree.query(self.position)[1])
        self.driven += (point - self.point + count // 2) % count - count // 2
        self.point = point

    @property
    def away(self) -> float:
        """Distance to the road's centre line."""
        return float(np.hypot(*(self.position - self.road.line[self.point])))

    @property
    def share(self) -> float:
        """Completed share of the lap, 0 to 1."""
        return min(max(self.driven / len(self.road.line), 0.0), 1.0)

    @property
    def over(self) -> bool:
        """Whether the car has completed the lap or left the road."""
        return self.share >= 1 or self.away > self.road.half

    def view(self) -> Array:
        """The car's view, uint8 [VIEW, VIEW, 3]."""
        ahead = np.array([np.cos(self.heading), np.sin(self.heading)])
        right = np.array([-ahead[1], ahead[0]])
        positions = self.position + AWAY[..., None] * ahead + ASIDE[..., None] * right
        across, down = np.rint(positions).astype(int).clip(0, SIDE - 1).transpose(2, 0, 1)
        pixels: Array = self.road.pixels[down, across]
        return pixels

    def expert(self) -> float:
        """The expert's steering: towards a point ahead on the line, by pure pursuit (Coulter 1992)."""
        gap = self.road.line[(self.point + AHEAD) % len(self.road.line)] - self.position
        angle = np.arctan2(gap[1], gap[0]) - self.heading
        return float(np.clip(SPEED * 2 * np.sin(angle) / np.hypot(*gap) / TURN, -1, 1))


AWAY, ASIDE = np.meshgrid(np.arange(26, 26 - VIEW, -1), np.arange(VIEW) - (VIEW - 1) / 2, indexing="ij")

Policy = Callable[[Sequence[Car]], Sequence[float]]
"""A function that returns the steering of each car."""


def drive(cars: Sequence[Car], policy: Policy, watch: Callable[[Sequence[Car]], None] = lambda _: None) -> None:
    """Drive all cars until each has completed its lap or left the road, for at most the time of two laps."""
    for _ in range(int(2 * max(len(car.road.line) for car in cars) / SPEED)):
        moving = [car for car in cars if not car.over]
        if not moving:
            return
        watch(cars)
        for car, steer in zip(moving, policy(moving), strict=True):
            car.move(steer)
