"""Generate an image classification project from a folder with one subfolder per class."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from cli.scaffold import infer, new_project, plan
from cli.scaffold.code import Call, render
from cli.scaffold.new_project import NewProject, Quality
from phaseflow.errors import DataError
from phaseflow.toolkit import images, pixels

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg"})
SIDE: Final = 32
"""Default width and height in pixels: enough for most classes, and small enough for training without a GPU."""
LARGEST_SIDE: Final = 128
STORED: Final = "images.zip"
CANDIDATES: Final[Mapping[str, Mapping[str, Any]]] = {
    "logistic_regression": {"C": 0.01},
    "hidden_layer": {"hidden": 64},
}


def make(name: str, folder: Path, *, side: int = SIDE) -> NewProject:
    """Generate the project `name` from the images in `folder/<class>/`. Raises DataError if they are unsuitable."""
    if not 8 <= side <= LARGEST_SIDE:
        raise DataError(
            f"The side is {side}; allowed: 8 to {LARGEST_SIDE} pixels", fix="Give --side a number in that range"
        )
    files = _files(folder)
    channels = 3 if any(_has_colour(path) for paths in files.values() for path in paths[:10]) else 1
    shape = (side, side, channels)
    pixels_by_class, unreadable = _read(files, shape)
    classes = tuple(sorted(kind for kind, contents in pixels_by_class.items() if len(contents) >= plan.CLASS_ROWS))
    rare = sorted(set(pixels_by_class) - set(classes))
    rows = [(kind, content) for kind in classes for content in pixels_by_class[kind]]
    if len(classes) < 2 or len(rows) < infer.MINIMUM_ROWS:
        raise DataError(
            f"{folder} has {len(classes)} classes of {plan.CLASS_ROWS} images or more, {len(rows)} images in all; allowed: at "
            f"least two classes and {infer.MINIMUM_ROWS} images",
            fix="Put the images of each class into a folder of its name",
        )
    pixel_values = np.frombuffer(b"".join(content for _, content in rows), np.uint8).reshape(len(rows), -1) / 255 - 0.5
    quality = new_project.measure_quality(
        pixels.classifier(0, new_project.SEED), pixel_values, np.array([kind for kind, _ in rows])
    )
    notes = (
        [f"{len(unreadable)} files can't be read and are left out: {', '.join(unreadable[:3])}"] if unreadable else []
    )
    notes += [f"Classes with fewer than {plan.CLASS_ROWS} images are left out: {', '.join(rare[:5])}"] if rare else []
    texts = _texts(name, classes, rows, shape, quality, tuple(notes))
    return NewProject(
        files={path: text.encode() for path, text in texts.items()} | {STORED: _zip_archive(rows, shape)},
        target="kind",
        classes=classes,
        rows=len(rows),
        quality=quality,
        notes=tuple(notes),
    )


def _texts(
    name: str,
    classes: tuple[str, ...],
    rows: list[tuple[str, bytes]],
    shape: tuple[int, int, int],
    quality: Quality,
    notes: tuple[str, ...],
) -> dict[str, str]:
    """Text files of the project, by path."""
    title = name.replace("_", " ").capitalize()
    what = f"classifies images into {len(classes)} classes"
    example = base64.b64encode(images.encode(rows[0][1], shape)).decode()
    return {
        "__init__.py": f'"""{title}: {what}."""\n',
        "project.py": new_project.declaration(
            name,
            title,
            what=what,
            source={"url": "", "mirror": f"{name}/{STORED}"},
            feature=Call("Column", kwargs={"name": "image", "kind": "image", "shape": shape}),
            target=Call("Column", kwargs={"name": "kind", "kind": "category", "allowed": classes}),
            candidates=CANDIDATES,
            quality=quality,
            example={"image": example},
            tags=("image",),
        ),
        "data.py": DATA.format(shape=render(shape), stored=STORED),
        "model.py": MODEL,
        "drift.py": DRIFT,
        f"tests/test_{name}.py": new_project.tests(name),
        "README.md": new_project.readme(
            title,
            name,
            what=what,
            source_text=f"{len(rows):,} images, resized to {shape[0]} x {shape[1]} pixels",
            quality=quality,
            send=f"curl -s -F image=@image.jpg http://127.0.0.1:3000/{name}/predict",
            notes=notes,
        ),
    }


def _files(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class, sorted."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", fix="Give a folder with one subfolder per class")
    return {
        class_folder.name: sorted(path for path in class_folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        for class_folder in sorted(folder.iterdir())
        if class_folder.is_dir() and not class_folder.name.startswith(".")
    }


def _has_colour(path: Path) -> bool:
    """Whether any pixel of the image has a colour."""
    try:
        with Image.open(path, formats=images.FORMATS) as picture:
            small = np.asarray(picture.convert("RGB").resize((16, 16)), np.int16)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    return bool((np.ptp(small, axis=2) > 8).any())


def _read(files: dict[str, list[Path]], shape: tuple[int, ...]) -> tuple[dict[str, list[bytes]], list[str]]:
    """The pixels of the images by class, and the names of unreadable files."""
    pixels_by_class: dict[str, list[bytes]] = {kind: [] for kind in files}
    unreadable = []
    for kind, paths in files.items():
        for path in paths:
            try:
                pixels_by_class[kind].append(images.decode(path.read_bytes(), shape))
            except (DataError, OSError):
                unreadable.append(path.name)
    return pixels_by_class, unreadable


def _zip_archive(rows: list[tuple[str, bytes]], shape: tuple[int, ...]) -> bytes:
    """A zip of PNG files, `<class>/<number>.png`; the same rows give the same bytes."""
    archive_bytes = io.BytesIO()
    with zipfile.ZipFile(archive_bytes, "w", zipfile.ZIP_STORED) as archive:
        for number, (kind, content) in enumerate(rows):
            archive.writestr(zipfile.ZipInfo(f"{kind}/{number:06d}.png"), images.encode(content, shape))
    return archive_bytes.getvalue()


DATA: Final = '''"""Read {stored} in this folder: one folder per class, one file per image."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from phaseflow.toolkit import images

SHAPE = {shape}
"""Height, width and channels: 1 for greyscale, 3 for RGB."""


def sample(seed: int) -> bytes:  # noqa: ARG001  # the sample is the whole file
    """The content of the data file."""
    return (Path(__file__).parent / "{stored}").read_bytes()


def read(content: bytes) -> pl.DataFrame:
    """One row per file: `image` has its pixels, `kind` the name of its folder."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = sorted(archive.namelist())
        pixels = [images.decode(archive.read(name), SHAPE) for name in names]
    kinds = [name.split("/")[0] for name in names]
    return pl.DataFrame({{"image": pl.Series(pixels, dtype=pl.Binary), "kind": pl.Series(kinds, dtype=pl.String)}})


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """Return the columns unchanged: they match the schema."""
    return raw
'''
MODEL: Final = '''"""Two candidates on the pixels: logistic regression, and a network with one hidden layer."""

from __future__ import annotations

import polars as pl

from phaseflow import Candidate, Project
from phaseflow.toolkit import pixels
from phaseflow.toolkit.model import Trained


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of images and their classes."""
    return pixels.fit(rows, project.schema, **candidate.params, seed=project.seed)
'''
DRIFT: Final = '''"""Simulated drift for `phaseflow traffic --drift`: negatives with uneven brightness."""

from __future__ import annotations

import numpy as np
import polars as pl


def simulate(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Invert images [N] and vary their brightness. A person still recognises them."""
    pixels = np.frombuffer(b"".join(rows["image"].to_list()), np.uint8).reshape(rows.height, -1)
    brightness = random.uniform(0.7, 1.0, (rows.height, 1))
    inverted = ((255 - pixels) * brightness).round().astype(np.uint8)
    return rows.with_columns(image=pl.Series([image.tobytes() for image in inverted], dtype=pl.Binary))
'''
