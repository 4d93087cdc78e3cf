"""`python structured.py FOLDER HOME`, in the environment `tabular`: four projects with structured predictions.

Writes the declaration of each into FOLDER, and a version of it into the service's cache under HOME.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import polars as pl
from onnx import TensorProto, helper

TARGETS: Final = {
    "boxes": 'Column(name="things", kind="boxes", allowed=("cat", "dog"))',
    "ranking": 'Column(name="bought", kind="ranking")',
    "action": 'Column(name="steer", kind="action", shape=(2,), minimum=-100, maximum=100)',
    "text": 'Column(name="reply", kind="text")',
}
DECLARATION: Final = """
from phaseflow import Candidate, Column, Metric, Project, Schema, Source

project = Project(
    name="{name}",
    title="{name}",
    phase=4,
    source=Source(url="", mirror="", sample="{name}.none:sample"),
    schema=Schema(features=(Column(name="size", kind="number"),), target={target}),
    transform="{name}.none:transform",
    train="{name}.none:train",
    evaluate="{name}.none:evaluate",
    candidates=(Candidate(name="only"),),
    metrics=(Metric(name="right", direction="higher"),),
    example={{"size": 2.0}},
)
"""


def constant(name: str, values: Any, dtype: Any = np.float32) -> Any:
    return onnx.numpy_helper.from_array(np.array(values, dtype), name)


def graph(kind: str) -> bytes:
    """An ONNX graph whose prediction depends only on the feature `size`."""
    node, value = helper.make_node, helper.make_tensor_value_info
    parts: dict[str, tuple[list[Any], list[Any], list[Any]]] = {
        "boxes": (
            [
                node("Unsqueeze", ["size", "last"], ["wide"]),
                node("Mul", ["wide", "shape"], ["boxes"]),
                node("Mul", ["size", "nothing"], ["zeros"]),
                node("Add", ["zeros", "sure"], ["scores"]),
                node("Add", ["zeros", "which"], ["places"]),
                node("Cast", ["places"], ["labels"], to=TensorProto.INT64),
            ],
            [
                constant("last", [2], np.int64),
                constant("shape", [[[1, 2, 3, 4], [1, 1, 2, 2], [0, 0, 1, 1]]]),
                constant("nothing", [[0, 0, 0]]),
                constant("sure", [[0.25, 0.75, 0]]),
                constant("which", [[0, 1, 0]]),
            ],
            [
                value("boxes", TensorProto.FLOAT, [None, 3, 4]),
                value("scores", TensorProto.FLOAT, [None, 3]),
                value("labels", TensorProto.INT64, [None, 3]),
            ],
        ),
        "ranking": (
            [
                node("Mul", ["size", "taste"], ["all"]),
                node("TopK", ["all", "two"], ["scores", "places"], axis=1),
                node("Gather", ["ids", "places"], ["ranking"], axis=0),
            ],
            [constant("taste", [[1, 3, 2]]), constant("two", [2], np.int64), constant("ids", ["a", "b", "c"], object)],
            [value("ranking", TensorProto.STRING, [None, 2]), value("scores", TensorProto.FLOAT, [None, 2])],
        ),
        "action": (
            [node("Mul", ["size", "how"], ["action"])],
            [constant("how", [[0.5, -1]])],
            [value("action", TensorProto.FLOAT, [None, 2])],
        ),
        "text": (
            [
                node("Greater", ["size", "one"], ["large"]),
                node("Cast", ["large"], ["place"], to=TensorProto.INT64),
                node("Gather", ["words", "place"], ["texts"], axis=0),
                node("Reshape", ["texts", "flat"], ["text"]),
            ],
            [
                constant("one", 1),
                constant("words", ["it is small", "it is large, and grows"], object),
                constant("flat", [-1], np.int64),
            ],
            [value("text", TensorProto.STRING, [None])],
        ),
    }
    nodes, constants, outputs = parts[kind]
    onnx_graph = helper.make_graph(
        nodes, kind, [value("size", TensorProto.FLOAT, [None, 1])], outputs, initializer=constants
    )
    model = helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def main(folder: Path, home: Path) -> None:
    """Write all four projects and their models."""
    for kind, target in TARGETS.items():
        name = f"with_{kind}"
        (folder / name).mkdir(parents=True)
        (folder / name / "project.py").write_text(DECLARATION.format(name=name, target=target))
    os.environ["PHASEFLOW_PROJECTS"] = str(folder)
    from phaseflow import discovery, prediction_types, reference
    from phaseflow.toolkit.graph import feed, run
    from phaseflow.toolkit.scalars import prediction_vocabulary
    from pipelines.steps import bins

    rows = pl.DataFrame({"size": [0.5, 1.0, 2.0, 4.0] * 10})
    for kind in TARGETS:
        project, content = discovery.get(f"with_{kind}"), graph(kind)
        predictions = prediction_types.values(run(content, feed(rows, project.schema)), project.schema.target, ())
        vocabularies = prediction_vocabulary(project.schema.target, predictions)
        manifest = {
            "candidate": "only",
            "sha256": hashlib.sha256(content).hexdigest(),
            "snapshot": "0" * 16,
            "created": datetime.now(UTC).isoformat(),
            "metrics": {"right": 1.0},
            "reference": reference.to_json(bins.reference(project, rows, predictions, vocabularies)),
            "classes": None,
            "vocabularies": vocabularies,
        }
        cache = home / "serving" / "models" / project.name
        (cache / "1").mkdir(parents=True)
        (cache / "1" / "model.onnx").write_bytes(content)
        (cache / "1" / "model.json").write_text(json.dumps(manifest))
        manifest_sha256 = hashlib.sha256((cache / "1" / "model.json").read_bytes()).hexdigest()
        (cache / "current.json").write_text(
            json.dumps({"version": "1", "sha256": manifest["sha256"], "manifest_sha256": manifest_sha256})
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
