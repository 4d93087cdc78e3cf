"""A small world to drive in: closed roads seen from above, a car of constant speed, and an expert.

Lengths are pixels, one step of time is one picture. A road's name says all of it: its look, and the seed of its course (`asphalt-12`).
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
"""Of the world."""
VIEW: Final = 32
"""Side of what the car sees: 26 pixels ahead of it, 5 behind, 16 to each side; ahead is up."""
SPEED: Final = 3.0
"""Pixels a step."""
TURN: Final = 0.25
"""Radians that the wheel, turned all the way, turns the car in a step."""
AHEAD: Final = 12
"""Distance of the point that the expert aims at."""
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
    """[P, 2]: its middle, a point a pixel, in the order of driving."""
    tree: KDTree
    """Of those points."""
    pixels: Array
    """[SIDE, SIDE, 3], uint8: the world from above."""
    half: float


@functools.lru_cache(maxsize=256)
def road(name: str) -> Road:
    """The road of that name; raises KeyError for a look that is not in `LOOKS`."""
    kind, _, seed = name.partition("-")
    look, random = LOOKS[kind], np.random.default_rng(int(seed))
    line = course(random)
    tree = KDTree(line)
    places = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1)
    distance = tree.query(places.reshape(-1, 2))[0].reshape(SIDE, SIDE)
    pixels = np.where((distance < look.half)[..., None], look.road, look.ground) + random.normal(0, 8, (SIDE, SIDE, 1))
    # A line at the edge, where a person would look for it.
    pixels[np.abs(distance - look.half) < 0.7] = 225
    return Road(name=name, line=line, tree=tree, pixels=pixels.clip(0, 255).astype(np.uint8), half=look.half)


def course(random: np.random.Generator) -> Array:
    """A closed spline through corners around the middle, one way round or the other, as points a pixel apart [P, 2]."""
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
    """Where a car is, and how far it has come."""

    road: Road
    position: Array
    """[2]: across and down."""
    heading: float
    """Radians; 0 looks to the right, and a positive turn is one to the right."""
    point: int
    """Of the road's line, the nearest."""
    driven: int = 0
    """Points of the line that it has passed."""

    @classmethod
    def start(cls, where: Road, point: int = 0) -> Car:
        """In the middle of the road, along it."""
        ahead = where.line[(point + 1) % len(where.line)] - where.line[point]
        return cls(where, where.line[point].copy(), float(np.arctan2(ahead[1], ahead[0])), point)

    def move(self, steer: float) -> None:
        """A step; `steer` is -1 (left) to 1 (right)."""
        self.heading += float(np.clip(steer, -1, 1)) * TURN
        self.position = self.position + SPEED * np.array([np.cos(self.heading), np.sin(self.heading)])
        count = len(self.road.line)
        point = int(self.road.tree.query(self.position)[1])
        self.driven += (point - self.point + count // 2) % count - count // 2
        self.point = point

    @property
    def away(self) -> float:
        """Distance to the middle of the road."""
        return float(np.hypot(*(self.position - self.road.line[self.point])))

    @property
    def share(self) -> float:
        """Of the lap."""
        return min(max(self.driven / len(self.road.line), 0.0), 1.0)

    @property
    def over(self) -> bool:
        """Whether the lap is driven, or the car has left the road."""
        return self.share >= 1 or self.away > self.road.half

    def view(self) -> Array:
        """What it sees, uint8 [VIEW, VIEW, 3]."""
        ahead = np.array([np.cos(self.heading), np.sin(self.heading)])
        right = np.array([-ahead[1], ahead[0]])
        places = self.position + AWAY[..., None] * ahead + ASIDE[..., None] * right
        across, down = np.rint(places).astype(int).clip(0, SIDE - 1).transpose(2, 0, 1)
        seen: Array = self.road.pixels[down, across]
        return seen

    def expert(self) -> float:
        """How the expert steers: towards a point ahead on the line, by pure pursuit (Coulter 1992)."""
        gap = self.road.line[(self.point + AHEAD) % len(self.road.line)] - self.position
        angle = np.arctan2(gap[1], gap[0]) - self.heading
        return float(np.clip(SPEED * 2 * np.sin(angle) / np.hypot(*gap) / TURN, -1, 1))


AWAY, ASIDE = np.meshgrid(np.arange(26, 26 - VIEW, -1), np.arange(VIEW) - (VIEW - 1) / 2, indexing="ij")

Policy = Callable[[Sequence[Car]], Sequence[float]]
"""How to steer each of some cars."""


def drive(cars: Sequence[Car], policy: Policy, watch: Callable[[Sequence[Car]], None] = lambda _: None) -> None:
    """Let all drive until each has driven its lap or left the road; who stands still in circles is stopped after two laps' time."""
    for _ in range(int(2 * max(len(car.road.line) for car in cars) / SPEED)):
        moving = [car for car in cars if not car.over]
        if not moving:
            return
        watch(cars)
        for car, steer in zip(moving, policy(moving), strict=True):
            car.move(steer)
