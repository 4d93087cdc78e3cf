"""Boxes drawn on images."""

from __future__ import annotations

import polars as pl
from matplotlib.patches import Rectangle

from phaseflow import Project, prediction_types
from phaseflow.kinds.boxes import SURE
from phaseflow.toolkit import graph, pictures
from projects.detection.project import SHAPE


def draw(content: bytes, rows: pl.DataFrame, project: Project) -> bytes:
    """Draw the predictions for rows [N] of images in orange and the labels in white; return a PNG."""
    target = project.schema.target
    assert target is not None  # noqa: S101  # the declaration has one
    predictions = prediction_types.values(graph.run(content, graph.feed(rows, project.schema)), target, ())
    columns = -(-rows.height // 2)
    figure, panels = pictures.grid(2, columns, (2.2 * columns, 4.6))
    for panel, pixels, boxes, label in zip(
        panels, graph.pixels(rows["image"], SHAPE), predictions, rows[target.name], strict=False
    ):
        panel.imshow(pixels)
        confident = [box for box in boxes if box["score"] >= SURE]
        for box, colour in (
            *((box, "white") for box in prediction_types.parse(label, target)),
            *((box, "orange") for box in confident),
        ):
            left, top, width, height = box["box"]
            panel.add_patch(
                Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=colour, linewidth=1.5)
            )
        panel.set_title(
            ", ".join(f"{box['label']} {box['score']:.2f}" for box in confident)[:40] or "nothing", fontsize=7
        )
    return pictures.png(figure)
