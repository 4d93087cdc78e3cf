"""`python generating.py FOLDER HOME`, in the environment `tabular`: two word-by-word language models.

Writes the declaration of each into FOLDER, and a version of it into the service's cache under HOME.
"""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from phaseflow import generation

NEXT: Final = {"hello": "good", "good": "day", "day": "<end>", "again": "again", "?": "<end>", "<end>": "<end>"}
"""The word that follows each word."""
WORDS: Final = tuple(NEXT)
LIMITS: Final = {"speaks": 10.0, "too_late": 0.0}
"""Deadline of a request in seconds, per project."""
DECLARATION: Final = """
from phaseflow import Candidate, Column, Metric, Project, Schema, Source

project = Project(
    name="{name}",
    title="{name}",
    phase=4,
    source=Source(url="", mirror="", sample="{name}.none:sample"),
    schema=Schema(
        features=(Column(name="asked", kind="text"), Column(name="context", kind="text", nullable=True)),
        target=Column(name="reply", kind="text"),
    ),
    transform="{name}.none:transform",
    train="{name}.none:train",
    evaluate="{name}.none:evaluate",
    candidates=(Candidate(name="only"),),
    metrics=(Metric(name="right", direction="higher"),),
    example={{"asked": "hello"}},
)
"""


def graph(deadline: float) -> bytes:
    """An ONNX graph that looks up the scores of the next word by the last word."""
    table = np.array([[float(NEXT[word] == other) for other in WORDS] for word in WORDS], np.float32)
    nodes = [
        helper.make_node("Gather", ["ids", "last"], ["word"], axis=1),
        helper.make_node("Gather", ["table", "word"], [generation.SCORES]),
    ]
    onnx_graph = helper.make_graph(
        nodes,
        "table",
        [helper.make_tensor_value_info(generation.IDS, TensorProto.INT64, ["rows", "tokens"])],
        [helper.make_tensor_value_info(generation.SCORES, TensorProto.FLOAT, ["rows", len(WORDS)])],
        initializer=[
            onnx.numpy_helper.from_array(table, "table"),
            onnx.numpy_helper.from_array(np.array(-1, np.int64), "last"),
        ],
    )
    model = helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {word: index for index, word in enumerate(WORDS)}, "unk_token": "?"},
    }
    settings = generation.Settings(
        prompt="{context} {asked}",
        end=(WORDS.index("<end>"),),
        max_new_tokens=5,
        max_length=16,
        deadline_seconds=deadline,
    )
    helper.set_model_props(model, generation.metadata(settings, json.dumps(tokenizer)))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def main(folder: Path, home: Path) -> None:
    """Write both projects and their models."""
    for name, deadline in LIMITS.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "project.py").write_text(DECLARATION.format(name=name))
        content = graph(deadline)
        manifest = {
            "candidate": "only",
            "sha256": hashlib.sha256(content).hexdigest(),
            "snapshot": "0" * 16,
            "created": datetime.now(UTC).isoformat(),
            "metrics": {"right": 1.0},
            "reference": [],
            "classes": None,
        }
        cache = home / "serving" / "models" / name
        (cache / "1").mkdir(parents=True)
        (cache / "1" / "model.onnx").write_bytes(content)
        (cache / "1" / "model.json").write_text(json.dumps(manifest))
        manifest_sha256 = hashlib.sha256((cache / "1" / "model.json").read_bytes()).hexdigest()
        (cache / "current.json").write_text(
            json.dumps({"version": "1", "sha256": manifest["sha256"], "manifest_sha256": manifest_sha256})
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
