"""Made images in Pascal VOC's format: cars, bottles, screens and plants, as simple as signs, before grass, brick or cloth."""

from __future__ import annotations

import io
import tarfile
from typing import Final
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

COUNT: Final = 420
SIDE: Final = 96
"""Larger than the model's images, so that boxes have to be shrunk, as real ones have."""
MOST: Final = 3
"""Things on an image."""
SIZES: Final = {"car": (44, 24), "bottle": (15, 42), "tvmonitor": (36, 32), "pottedplant": (28, 40)}
"""Width and height of each, in pixels, before it is made smaller or larger."""

Box = tuple[int, int, int, int]


def sample(seed: int) -> bytes:
    """The archive: `COUNT` images with one to three things each, which don't hide each other."""
    random = np.random.default_rng(seed)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for number in range(COUNT):
            picture, things = scene(random)
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=90)
            _add(archive, f"VOCdevkit/VOC2007/JPEGImages/{number:06}.jpg", file.getvalue())
            _add(archive, f"VOCdevkit/VOC2007/Annotations/{number:06}.xml", annotation(things))
    return content.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size = len(content)
    archive.addfile(about, io.BytesIO(content))


def annotation(things: list[tuple[str, Box]]) -> bytes:
    """VOC's XML of left, top, right and bottom, counted from 1."""
    objects = "".join(
        f"<object><name>{escape(name)}</name><difficult>0</difficult><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
        f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for name, (left, top, right, bottom) in things
    )
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
    return f"<annotation>{size}{objects}</annotation>".encode()


def scene(random: np.random.Generator) -> tuple[Image.Image, list[tuple[str, Box]]]:
    """An image and what is on it."""
    picture = background(random)
    draw, things = ImageDraw.Draw(picture), list[tuple[str, Box]]()
    for _ in range(random.integers(1, MOST + 1)):
        name = str(random.choice(list(SIZES)))
        scale = random.uniform(0.7, 1.2)
        wide, high = (round(side * scale) for side in SIZES[name])
        left, top = (int(random.integers(0, SIDE - side + 1)) for side in (wide, high))
        box = (left, top, left + wide, top + high)
        if not any(_meet(box, other) for _, other in things):
            thing(draw, name, box, random)
            things.append((name, box))
    return picture.filter(ImageFilter.GaussianBlur(0.6)), things


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def background(random: np.random.Generator) -> Image.Image:
    """Coarse and fine noise of one hue, by daylight."""
    colour = random.uniform(90, 190, 3)
    coarse: npt.NDArray[np.float64] = random.normal(0, 22, (8, 8))
    fine = random.normal(0, 10, (SIDE, SIDE))
    pixels = colour + (np.kron(coarse, np.ones((SIDE // 8, SIDE // 8))) + fine)[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def thing(draw: ImageDraw.ImageDraw, name: str, box: Box, random: np.random.Generator) -> None:
    """Draw one into its box, which it touches on all four sides."""
    left, top, right, bottom = box
    wide, high = right - left, bottom - top
    colour = tuple(int(one) for one in random.integers(0, 256, 3))
    dark = tuple(one // 3 for one in colour)

    def part(shape: str, x0: float, y0: float, x1: float, y1: float, fill: tuple[int, ...]) -> None:
        corners = (left + x0 * wide, top + y0 * high, left + x1 * wide - 1, top + y1 * high - 1)
        getattr(draw, shape)(corners, fill=fill)

    match name:
        case "car":
            part("rectangle", 0.2, 0, 0.8, 0.5, dark)
            part("rectangle", 0, 0.4, 1, 0.8, colour)
            part("ellipse", 0.1, 0.6, 0.35, 1, (20, 20, 20))
            part("ellipse", 0.65, 0.6, 0.9, 1, (20, 20, 20))
        case "bottle":
            part("rectangle", 0.3, 0, 0.7, 0.4, dark)
            part("ellipse", 0, 0.25, 1, 0.6, colour)
            part("rectangle", 0, 0.42, 1, 1, colour)
        case "tvmonitor":
            part("rectangle", 0, 0, 1, 0.8, (25, 25, 30))
            part("rectangle", 0.08, 0.08, 0.92, 0.7, tuple(150 + one // 3 for one in colour))
            part("rectangle", 0.3, 0.8, 0.7, 1, (25, 25, 30))
        case _:
            part("ellipse", 0, 0, 1, 0.65, (30, 110 + colour[1] // 4, 40))
            part("rectangle", 0.25, 0.6, 0.75, 1, (150, 80 + colour[0] // 8, 50))
