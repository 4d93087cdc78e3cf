"""Steering with one weight per pixel: ridge regression (Hoerl and Kennard 1970), fitted in closed form in a second."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
from onnx import TensorProto, helper
from sklearn.linear_model import Ridge

from phaseflow import Project
from phaseflow.toolkit import graph
from phaseflow.toolkit.model import Trained
from projects.driving.simulator import VIEW


def fit(rows: pl.DataFrame, steer: npt.NDArray[np.float32], project: Project, *, alpha: float) -> Trained:
    """Fit on rows [N] of images and `steer` [N, 1], and on their mirror images, in which left and right turns swap."""
    images = graph.pixels(rows["image"], (VIEW, VIEW, 3))
    features = np.concatenate([images, images[:, :, ::-1]]).reshape(2 * len(images), -1).astype(np.float32) / 255
    model = Ridge(alpha=alpha).fit(features, np.concatenate([steer, -steer])[:, 0])
    return Trained(
        onnx=to_onnx(model.coef_, model.intercept_, project), notes={"weights": f"{features.shape[1] + 1:,}"}
    )


def to_onnx(weights: npt.NDArray[np.float32], offset: float, project: Project) -> bytes:
    """Build the graph: pixels scaled to 0 to 1, their weighted sum, clipped to the range of the wheel."""
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["numbers", "white"], ["shares"]),
        helper.make_node("Flatten", ["shares"], ["flow"], axis=1),
        helper.make_node("Clip", ["sums", "left", "right"], ["action"]),
    ]
    dense_nodes, initializers = graph.dense([(weights.reshape(-1, 1), np.array([offset]))], "flow", "sums")
    nodes[3:3] = dense_nodes
    limits = {"white": 255, "left": -1, "right": 1}
    constants = [*initializers, *(graph.constant(name, np.float32(value)) for name, value in limits.items())]
    return graph.build_model(
        project.schema, nodes, constants, [helper.make_tensor_value_info("action", TensorProto.FLOAT, [None, 1])]
    )
