"""Non-maximum suppression as the end of the graph: only the best of overlapping boxes remains.

Each row's output has the same number of boxes. The graph uses standard ONNX operators, so that the service needs no
code of this project.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from phaseflow.toolkit.graph import constant

MAX_BOXES: Final = 10
"""Number of boxes per image."""
OVERLAP: Final = 0.45
"""Intersection over union above which two boxes of one class count as the same object."""
MIN_SCORE: Final = 0.05
"""Score below which a box is dropped."""
APART: Final = 10_000.0
"""Offset between the classes in pixels, so that boxes of different classes never overlap."""


def nodes() -> list[NodeProto]:
    """Build the nodes from the cells to the outputs.

    The inputs are `cell_boxes` [N, K, 4] (left, top, width, height), `cell_scores` and `cell_labels` [N, K].
    `NonMaxSuppression` returns the indices of the selected boxes. All others get the score 0, and the `MAX_BOXES` best
    boxes are returned.
    """
    node = helper.make_node
    return [
        # The corners, with a different offset for each class.
        node("Cast", ["cell_labels"], ["label_numbers"], to=TensorProto.FLOAT),
        node("Mul", ["label_numbers", "apart"], ["moves"]),
        node("Unsqueeze", ["moves", "last"], ["moved"]),
        node("Slice", ["cell_boxes", "zero", "two", "last"], ["starts"]),
        node("Slice", ["cell_boxes", "two", "four", "last"], ["sides"]),
        node("Add", ["starts", "moved"], ["near"]),
        node("Add", ["near", "sides"], ["far"]),
        node("Concat", ["near", "far"], ["corners"], axis=2),
        node("Unsqueeze", ["cell_scores", "one"], ["class_scores"]),
        node("NonMaxSuppression", ["corners", "class_scores", "max_per_class", "overlap", "min_score"], ["stay"]),
        # A mask of the selected boxes, from their indices (row, class, box).
        node("Gather", ["stay", "row_and_box"], ["selected_indices"], axis=1),
        node("Shape", ["cell_scores"], ["size"]),
        node("ConstantOfShape", ["size"], ["nothing"]),
        node("Shape", ["selected_indices"], ["selected_shape"]),
        node("Slice", ["selected_shape", "zero", "one"], ["count"]),
        node("ConstantOfShape", ["count"], ["ones"], value=helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])),
        node("ScatterND", ["nothing", "selected_indices", "ones"], ["stays"]),
        node("Mul", ["cell_scores", "stays"], ["left_scores"]),
        node("TopK", ["left_scores", "max_boxes"], ["scores", "best"], axis=1),
        node("GatherElements", ["cell_labels", "best"], ["labels"], axis=1),
        node("Unsqueeze", ["best", "last"], ["best_box"]),
        node("Expand", ["best_box", "box_shape"], ["best_sides"]),
        node("GatherElements", ["cell_boxes", "best_sides"], ["boxes"], axis=1),
    ]


def constants() -> list[TensorProto]:
    """Build the constants that the nodes refer to."""
    whole = {"zero": 0, "one": 1, "two": 2, "four": 4, "last": 2, "max_per_class": MAX_BOXES, "max_boxes": MAX_BOXES}
    return [
        *(constant(name, np.array([value], np.int64)) for name, value in whole.items()),
        constant("row_and_box", np.array([0, 2], np.int64)),
        constant("box_shape", np.array([1, 1, 4], np.int64)),
        constant("apart", np.float32(APART)),
        constant("overlap", np.array([OVERLAP], np.float32)),
        constant("min_score", np.array([MIN_SCORE], np.float32)),
    ]


def outputs() -> list[ValueInfoProto]:
    """Declare the graph's outputs, in the form that `phaseflow.prediction_types` reads."""
    return [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [None, MAX_BOXES, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, MAX_BOXES]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, [None, MAX_BOXES]),
    ]
