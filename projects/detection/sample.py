"""Synthetic images in Pascal VOC's format: simple cars, bottles, screens and plants on noisy backgrounds."""

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
"""Side of an image in pixels; larger than the model's input, so that boxes are scaled down as those of photos are."""
MAX_THINGS: Final = 3
"""Maximum number of objects in an image."""
SIZES: Final = {"car": (44, 24), "bottle": (15, 42), "tvmonitor": (36, 32), "pottedplant": (28, 40)}
"""Width and height of each class in pixels, before random scaling."""

Box = tuple[int, int, int, int]


def sample(seed: int) -> bytes:
    """Create the archive: `COUNT` images with one to three objects each, which do not overlap."""
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
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def annotation(things: list[tuple[str, Box]]) -> bytes:
    """Return VOC's XML of the boxes (left, top, right, bottom), with pixels counted from 1."""
    objects = "".join(
        f"<object><name>{escape(name)}</name><difficult>0</difficult><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
        f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for name, (left, top, right, bottom) in things
    )
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
    return f"<annotation>{size}{objects}</annotation>".encode()


def scene(random: np.random.Generator) -> tuple[Image.Image, list[tuple[str, Box]]]:
    """Draw an image; return it with its objects."""
    picture = background(random)
    draw, things = ImageDraw.Draw(picture), list[tuple[str, Box]]()
    for _ in range(random.integers(1, MAX_THINGS + 1)):
        name = str(random.choice(list(SIZES)))
        scale = random.uniform(0.7, 1.2)
        width, height = (round(side * scale) for side in SIZES[name])
        left, top = (int(random.integers(0, SIDE - side + 1)) for side in (width, height))
        box = (left, top, left + width, top + height)
        if not any(_overlap(box, other) for _, other in things):
            thing(draw, name, box, random)
            things.append((name, box))
    return picture.filter(ImageFilter.GaussianBlur(0.6)), things


def _overlap(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def background(random: np.random.Generator) -> Image.Image:
    """Draw a bright background of coarse and fine noise in one hue."""
    colour = random.uniform(90, 190, 3)
    coarse: npt.NDArray[np.float64] = random.normal(0, 22, (8, 8))
    fine = random.normal(0, 10, (SIDE, SIDE))
    pixels = colour + (np.kron(coarse, np.ones((SIDE // 8, SIDE // 8))) + fine)[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def thing(draw: ImageDraw.ImageDraw, name: str, box: Box, random: np.random.Generator) -> None:
    """Draw an object that touches all four sides of its box."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    colour = tuple(int(channel) for channel in random.integers(0, 256, 3))
    dark = tuple(channel // 3 for channel in colour)

    def part(shape: str, x0: float, y0: float, x1: float, y1: float, fill: tuple[int, ...]) -> None:
        corners = (left + x0 * width, top + y0 * height, left + x1 * width - 1, top + y1 * height - 1)
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
            part("rectangle", 0.08, 0.08, 0.92, 0.7, tuple(150 + channel // 3 for channel in colour))
            part("rectangle", 0.3, 0.8, 0.7, 1, (25, 25, 30))
        case _:
            part("ellipse", 0, 0, 1, 0.65, (30, 110 + colour[1] // 4, 40))
            part("rectangle", 0.25, 0.6, 0.75, 1, (150, 80 + colour[0] // 8, 50))
