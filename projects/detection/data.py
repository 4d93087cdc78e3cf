"""Pascal VOC's archive: images, and beside each the boxes of what is on it."""

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
    """`image` (its pixels) and `things` (JSON of its boxes, in those pixels) of each annotation in the archive.

    Raises DataError where it is no tar file, or an image is missing.
    """
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                if member.isfile() and member.name.endswith((".xml", ".jpg")):
                    files[member.name] = archive.extractfile(member).read()  # type: ignore[union-attr]  # it is a file
    except tarfile.TarError as error:
        raise DataError(f"The archive can't be read: {error}", fix="Get it again: it looks cut off") from error
    rows = []
    for name in sorted(name for name in files if name.endswith(".xml")):
        picture = name.replace("Annotations", "JPEGImages").replace(".xml", ".jpg")
        if picture not in files:
            raise DataError(f"The archive lacks {picture}", fix="Get it again: it looks cut off")
        rows.append((images.decode(files[picture], SHAPE), json.dumps(boxes(files[name]), separators=(",", ":"))))
    return pl.DataFrame(rows, schema={"image": pl.Binary, "things": pl.String}, orient="row")


def boxes(annotation: bytes) -> list[dict[str, Any]]:
    """The boxes of an annotation, in pixels of `SHAPE`; what even people find hard to see is left out, as in VOC's judgement."""
    root = ET.fromstring(annotation)  # noqa: S314  # its checksum is known, and Expat refuses entities that explode
    wide, high = (
        SHAPE[axis] / float(root.findtext(f"size/{name}", "0")) for axis, name in ((1, "width"), (0, "height"))
    )
    found = []
    for thing in root.iter("object"):
        if thing.findtext("difficult") == "1":
            continue
        left, top, right, bottom = (
            float(thing.findtext(f"bndbox/{side}", "0")) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        # VOC counts pixels from 1, and the last one belongs to the box.
        box = [(left - 1) * wide, (top - 1) * high, (right - left + 1) * wide, (bottom - top + 1) * high]
        found.append({"box": [round(side, 2) for side in box], "label": thing.findtext("name", "")})
    return found


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """The columns are the schema's already."""
    return raw
