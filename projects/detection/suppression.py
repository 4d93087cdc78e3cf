"""The end of the graph: of boxes that overlap only the best stays, and each row answers with the same number of boxes.

Written in ONNX's own operators, so that the service needs no code of this project.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from phaseflow.toolkit.graph import constant

MOST: Final = 10
"""Boxes of an answer."""
OVERLAP: Final = 0.45
"""Intersection over union from which two boxes of one class are the same thing."""
LEAST: Final = 0.05
"""Score below which a box is not worth saying."""
APART: Final = 10_000.0
"""Pixels by which the classes are moved apart, so that boxes of two classes never overlap."""


def nodes() -> list[NodeProto]:
    """From `cell_boxes` [N, K, 4] (left, top, width, height), `cell_scores` and `cell_labels` [N, K] to the answer's outputs.

    `NonMaxSuppression` gives the numbers of the boxes that stay; all others get the score 0, and the `MOST` best are kept.
    """
    node = helper.make_node
    return [
        # Corners, each class in a place of its own.
        node("Cast", ["cell_labels"], ["label_numbers"], to=TensorProto.FLOAT),
        node("Mul", ["label_numbers", "apart"], ["moves"]),
        node("Unsqueeze", ["moves", "last"], ["moved"]),
        node("Slice", ["cell_boxes", "zero", "two", "last"], ["starts"]),
        node("Slice", ["cell_boxes", "two", "four", "last"], ["sides"]),
        node("Add", ["starts", "moved"], ["near"]),
        node("Add", ["near", "sides"], ["far"]),
        node("Concat", ["near", "far"], ["corners"], axis=2),
        node("Unsqueeze", ["cell_scores", "one"], ["class_scores"]),
        node("NonMaxSuppression", ["corners", "class_scores", "many", "overlap", "least"], ["stay"]),
        # (row, class, box) of each that stays: a 1 in its place.
        node("Gather", ["stay", "row_and_box"], ["places"], axis=1),
        node("Shape", ["cell_scores"], ["size"]),
        node("ConstantOfShape", ["size"], ["nothing"]),
        node("Shape", ["places"], ["found"]),
        node("Slice", ["found", "zero", "one"], ["count"]),
        node("ConstantOfShape", ["count"], ["ones"], value=helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])),
        node("ScatterND", ["nothing", "places", "ones"], ["stays"]),
        node("Mul", ["cell_scores", "stays"], ["left_scores"]),
        node("TopK", ["left_scores", "most"], ["scores", "best"], axis=1),
        node("GatherElements", ["cell_labels", "best"], ["labels"], axis=1),
        node("Unsqueeze", ["best", "last"], ["best_box"]),
        node("Expand", ["best_box", "box_shape"], ["best_sides"]),
        node("GatherElements", ["cell_boxes", "best_sides"], ["boxes"], axis=1),
    ]


def constants() -> list[TensorProto]:
    """What the nodes name."""
    whole = {"zero": 0, "one": 1, "two": 2, "four": 4, "last": 2, "many": MOST, "most": MOST}
    return [
        *(constant(name, np.array([value], np.int64)) for name, value in whole.items()),
        constant("row_and_box", np.array([0, 2], np.int64)),
        constant("box_shape", np.array([1, 1, 4], np.int64)),
        constant("apart", np.float32(APART)),
        constant("overlap", np.array([OVERLAP], np.float32)),
        constant("least", np.array([LEAST], np.float32)),
    ]


def outputs() -> list[ValueInfoProto]:
    """Of the graph, as `phaseflow.answers` reads them."""
    return [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [None, MOST, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, MOST]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, [None, MOST]),
    ]
