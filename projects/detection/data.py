"""Reader of Pascal VOC's archive: images and the bounding boxes of their objects."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any
from xml.etree import ElementTree as ET

import narwhals as nw
import polars as pl

from phaseflow.errors import DataError
from phaseflow.toolkit import images
from projects.detection.project import SHAPE


def read(content: bytes) -> pl.DataFrame:
    """Read `image` (its pixels) and `things` (JSON of its boxes, in those pixels) of each annotation in the archive.

    Raises DataError if the file is not a tar archive or an image is missing.
    """
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                if member.isfile() and member.name.endswith((".xml", ".jpg")):
                    files[member.name] = archive.extractfile(member).read()  # type: ignore[union-attr]  # it is a file
    except tarfile.TarError as error:
        raise DataError(f"The archive can't be read: {error}", fix="Download it again: it may be truncated") from error
    rows = []
    for name in sorted(name for name in files if name.endswith(".xml")):
        picture = name.replace("Annotations", "JPEGImages").replace(".xml", ".jpg")
        if picture not in files:
            raise DataError(f"The archive lacks {picture}", fix="Download it again: it may be truncated")
        rows.append((images.decode(files[picture], SHAPE), json.dumps(boxes(files[name]), separators=(",", ":"))))
    return pl.DataFrame(rows, schema={"image": pl.Binary, "things": pl.String}, orient="row")


def boxes(annotation: bytes) -> list[dict[str, Any]]:
    """Read the boxes of an annotation, in pixels of `SHAPE`.

    `difficult` marks objects that are hard to see even for people. As in VOC's evaluation, they need not be detected.
    """
    root = ET.fromstring(annotation)  # noqa: S314  # the file's checksum is verified, and Expat limits entity expansion
    scale_x, scale_y = (
        SHAPE[axis] / float(root.findtext(f"size/{name}", "0")) for axis, name in ((1, "width"), (0, "height"))
    )
    objects = []
    for thing in root.iter("object"):
        left, top, right, bottom = (
            float(thing.findtext(f"bndbox/{side}", "0")) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        # VOC counts pixels from 1, and the last one belongs to the box.
        box = [(left - 1) * scale_x, (top - 1) * scale_y, (right - left + 1) * scale_x, (bottom - top + 1) * scale_y]
        hard = {"difficult": True} if thing.findtext("difficult") == "1" else {}
        objects.append({"box": [round(side, 2) for side in box], "label": thing.findtext("name", "")} | hard)
    return objects


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """Return `raw` unchanged: its columns already match the schema."""
    return raw
