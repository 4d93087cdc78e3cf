"""A project that tells the class of an image, from a folder that has a folder a class."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from phaseflow.errors import DataError
from phaseflow.scaffold import infer, made, plan
from phaseflow.scaffold.code import Call, render
from phaseflow.scaffold.made import Made
from phaseflow.toolkit import images, pixels

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg"})
SIDE: Final = 32
"""Pixels of a side, unless told otherwise: enough to tell most things apart, and small enough to learn from without a GPU."""
LARGEST_SIDE: Final = 128
STORED: Final = "images.zip"
CANDIDATES: Final[Mapping[str, Mapping[str, Any]]] = {
    "logistic_regression": {"strength": 0.01},
    "hidden_layer": {"hidden": 64},
}


def make(name: str, folder: Path, *, side: int = SIDE) -> Made:
    """The project `name` of the images in `folder/<class>/`; raises DataError where they do not make one."""
    if not 8 <= side <= LARGEST_SIDE:
        raise DataError(
            f"The side is {side}; allowed: 8 to {LARGEST_SIDE} pixels", fix="Give --side a number in that range"
        )
    files = _files(folder)
    channels = 3 if any(_coloured(path) for paths in files.values() for path in paths[:10]) else 1
    shape = (side, side, channels)
    read, broken = _read(files, shape)
    classes = tuple(sorted(kind for kind, found in read.items() if len(found) >= plan.CLASS_ROWS))
    rare = sorted(set(read) - set(classes))
    rows = [(kind, content) for kind in classes for content in read[kind]]
    if len(classes) < 2 or len(rows) < infer.MINIMUM_ROWS:
        raise DataError(
            f"{folder} has {len(classes)} classes of {plan.CLASS_ROWS} images or more, {len(rows)} images in all; allowed: two "
            f"classes, {infer.MINIMUM_ROWS} images",
            fix="Put the images of each class into a folder of its name",
        )
    seen = np.frombuffer(b"".join(content for _, content in rows), np.uint8).reshape(len(rows), -1) / 255 - 0.5
    quality = made.judged(pixels.classifier(0, made.SEED), seen, np.array([kind for kind, _ in rows]))
    notes = [f"{len(broken)} files can't be read and are left out: {', '.join(broken[:3])}"] if broken else []
    notes += [f"Classes with fewer than {plan.CLASS_ROWS} images are left out: {', '.join(rare[:5])}"] if rare else []
    title = name.replace("_", " ").capitalize()
    what = f"tells what an image shows, one of {len(classes)} classes"
    example = base64.b64encode(images.encode(rows[0][1], shape)).decode()
    texts = {
        "__init__.py": f'"""{title}: {what}."""\n',
        "project.py": made.declaration(
            name,
            title,
            what=what,
            task="image",
            source={"url": "", "mirror": f"{name}/{STORED}"},
            feature=Call("Column", by_name={"name": "image", "kind": "image", "shape": shape}),
            target=Call("Column", by_name={"name": "kind", "kind": "category", "allowed": classes}),
            candidates=CANDIDATES,
            quality=quality,
            example={"image": example},
            tags=("image",),
        ),
        "data.py": DATA.format(shape=render(shape), stored=STORED),
        "model.py": MODEL,
        "world.py": WORLD,
        f"tests/test_{name}.py": made.tests(name),
        "README.md": made.readme(
            title,
            name,
            what=what,
            made_of=f"{len(rows):,} images, each {side} x {side} pixels now",
            quality=quality,
            send=f"curl -s -F image=@image.jpg http://127.0.0.1:3000/{name}/predict",
            notes=tuple(notes),
        ),
    }
    return Made(
        files={path: text.encode() for path, text in texts.items()} | {STORED: _packed(rows, shape)},
        task="image",
        target="kind",
        classes=classes,
        rows=len(rows),
        quality=quality,
        notes=tuple(notes),
    )


def _files(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class, sorted."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder", fix="Give the folder that has a folder for each class")
    return {
        one.name: sorted(path for path in one.rglob("*") if path.suffix.lower() in SUFFIXES)
        for one in sorted(folder.iterdir())
        if one.is_dir() and not one.name.startswith(".")
    }


def _coloured(path: Path) -> bool:
    """Whether some pixel of it is no grey."""
    try:
        with Image.open(path, formats=images.FORMATS) as picture:
            small = np.asarray(picture.convert("RGB").resize((16, 16)), np.int16)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    return bool((np.ptp(small, axis=2) > 8).any())


def _read(files: dict[str, list[Path]], shape: tuple[int, ...]) -> tuple[dict[str, list[bytes]], list[str]]:
    """The pixels of each class, and the names of files that are no images."""
    found: dict[str, list[bytes]] = {kind: [] for kind in files}
    broken = []
    for kind, paths in files.items():
        for path in paths:
            try:
                found[kind].append(images.decode(path.read_bytes(), shape))
            except (DataError, OSError):
                broken.append(path.name)
    return found, broken


def _packed(rows: list[tuple[str, bytes]], shape: tuple[int, ...]) -> bytes:
    """A zip of PNG files, `<class>/<number>.png`; the same rows make the same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for number, (kind, seen) in enumerate(rows):
            archive.writestr(zipfile.ZipInfo(f"{kind}/{number:06d}.png"), images.encode(seen, shape))
    return content.getvalue()


DATA: Final = '''"""Reading {stored} in this folder: a folder a class, an image a file."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from phaseflow.toolkit import images

SHAPE = {shape}
"""Height, width, and 1 for grey or 3 for colours."""


def sample(seed: int) -> bytes:  # noqa: ARG001  # nothing is drawn: the whole file is here
    """The file."""
    return (Path(__file__).parent / "{stored}").read_bytes()


def read(content: bytes) -> pl.DataFrame:
    """`image`, the pixels of each file, and `kind`, the folder that it lies in."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = sorted(archive.namelist())
        seen = [images.decode(archive.read(name), SHAPE) for name in names]
    kinds = [name.split("/")[0] for name in names]
    return pl.DataFrame({{"image": pl.Series(seen, dtype=pl.Binary), "kind": pl.Series(kinds, dtype=pl.String)}})


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """The columns are the schema's already."""
    return raw
'''
MODEL: Final = '''"""Logistic regression on the pixels, and one hidden layer."""

from __future__ import annotations

import polars as pl

from phaseflow import Candidate, Project
from phaseflow.toolkit import pixels
from phaseflow.toolkit.model import Trained


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of images and their kinds."""
    return pixels.fit(rows, project.schema, **candidate.params, seed=project.seed)
'''
WORLD: Final = '''"""The world that `phaseflow traffic --drift` plays: negatives, under uneven light."""

from __future__ import annotations

import numpy as np
import polars as pl


def drift(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Images [N] with dark and bright exchanged, each lit a little differently: all is there that a person needs."""
    seen = np.frombuffer(b"".join(rows["image"].to_list()), np.uint8).reshape(rows.height, -1)
    light = random.uniform(0.7, 1.0, (rows.height, 1))
    changed = ((255 - seen) * light).round().astype(np.uint8)
    return rows.with_columns(image=pl.Series([one.tobytes() for one in changed], dtype=pl.Binary))
'''
