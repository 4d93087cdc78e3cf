"""Boxes drawn on images."""

from __future__ import annotations

import polars as pl
from matplotlib.patches import Rectangle

from phaseflow import Project, answers
from phaseflow.toolkit import graph, pictures
from projects.detection.project import SHAPE


def drawn(content: bytes, rows: pl.DataFrame, project: Project) -> bytes:
    """What the model says of rows [N] of images in orange, the truth in white, as a PNG."""
    target = project.schema.target
    assert target is not None  # noqa: S101  # the declaration has one
    said = answers.values(graph.run(content, graph.feed(rows, project.schema)), target, ())
    across = -(-rows.height // 2)
    figure, panels = pictures.grid(2, across, (2.2 * across, 4.6))
    for panel, pixels, mine, truth in zip(
        panels, graph.pixels(rows["image"], SHAPE), said, rows[target.name], strict=False
    ):
        panel.imshow(pixels)
        sure = [one for one in mine if one["score"] >= answers.SURE]
        for one, colour in (
            *((one, "white") for one in answers.read(truth, target)),
            *((one, "orange") for one in sure),
        ):
            left, top, wide, high = one["box"]
            panel.add_patch(Rectangle((left - 0.5, top - 0.5), wide, high, fill=False, edgecolor=colour, linewidth=1.5))
        panel.set_title(", ".join(f"{one['label']} {one['score']:.2f}" for one in sure)[:40] or "nothing", fontsize=7)
    return pictures.png(figure)
