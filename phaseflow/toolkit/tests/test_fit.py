"""Threads of a training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import polars as pl
from threadpoolctl import threadpool_info

from phaseflow import discovery
from phaseflow.testing import more_projects
from phaseflow.toolkit.fit import fit

TRAIN = """
from threadpoolctl import threadpool_info
from phaseflow.toolkit.model import Trained

def train(rows, project, candidate):
    return Trained(onnx=b"", notes={"threads": str({pool["num_threads"] for pool in threadpool_info()})})
"""
LATE = "from sklearn.tree import DecisionTreeClassifier\n" + TRAIN


def test_every_training_is_limited_also_after_an_import_has_loaded_more_libraries(tmp_path: Path) -> None:
    for name, source in (("early", TRAIN), ("late", LATE)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.py").write_text(source)
    project = discovery.get("titanic")
    with more_projects(tmp_path):
        for name in ("early", "early", "late", "late"):
            own = dataclasses.replace(project, train=f"{name}.model:train")
            trained = fit(pl.DataFrame(), own, project.candidates[0])
            assert trained.notes["threads"] == str({max(1, round(project.resources.cpu))})
    assert threadpool_info()
