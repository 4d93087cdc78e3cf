"""`python publish.py FOLDER`, in the environment `tabular`: registers real versions of each project in MLflow.

Writes `FOLDER/<project>.json`: rows and labels as clients send them, and the outputs of each version for the rows.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow
import numpy as np
import onnx
import polars as pl

from phaseflow import discovery, prediction_types, reference
from phaseflow.contract import Project
from phaseflow.reference import Bins
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit import graph, source
from phaseflow.toolkit.client import sent
from phaseflow.toolkit.fit import fit
from phaseflow.toolkit.scalars import prediction_descriptors, prediction_vocabulary, scalars, vocabularies

CANDIDATES = {
    "titanic": ("decision_tree", "logistic_regression"),
    "house_prices": ("ridge", "linear_regression"),
    "from_scratch": ("logistic_regression",),
    "customer_segments": ("kmeans",),
}


def bins_of(name: str, values: pl.Series) -> Bins:
    """A few bins of `values`, with their shares."""
    if values.dtype.is_numeric():
        edges = tuple(float(e) for e in np.unique(np.quantile(values.drop_nulls().to_numpy(), [0.25, 0.5, 0.75])))
        empty = Bins(feature=name, edges=edges, shares=(0.0,) * (len(edges) + 2))
    else:
        words = tuple(sorted(values.drop_nulls().unique()))
        empty = Bins(feature=name, values=words, shares=(0.0,) * (len(words) + 2))
    indices = [empty.index(value) for value in values]
    shares = tuple(indices.count(index) / len(indices) for index in range(len(empty.shares)))
    return Bins(feature=name, edges=empty.edges, values=empty.values, shares=shares)


def publish(client: mlflow.MlflowClient, project: Project, rows: pl.DataFrame, candidate: str) -> dict[str, Any]:
    """Train, log and register a version as the pipeline's last step does; return its outputs for `rows`."""
    declared = next(item for item in project.candidates if item.name == candidate)
    trained = fit(rows, project, declared)
    outputs = graph.run(trained.onnx, graph.feed(rows, project.schema))
    target = project.schema.target
    predictions = prediction_types.values(outputs, target, trained.classes)
    vocabulary = vocabularies(project.schema, rows) | prediction_vocabulary(target, predictions)
    prediction_scalars = prediction_descriptors(target, predictions, vocabulary)
    feature_scalars = scalars(project.schema, rows, vocabulary)
    manifest = {
        "format": 1,
        "project": project.name,
        "task": project.task,
        "candidate": candidate,
        "sha256": hashlib.sha256(trained.onnx).hexdigest(),
        "inputs": [{"name": column.name, "kind": column.kind} for column in project.schema.features],
        "classes": trained.classes or None,
        "snapshot": "0" * 16,
        "run": f"test-{candidate}",
        "created": datetime.now(UTC).isoformat(),
        "metrics": {project.primary.name: 0.5},
        "reference": reference.to_json(
            [
                bins_of(item.name, item)
                for item in (
                    *(feature_scalars[name] for name in project.monitored_features),
                    *prediction_scalars.iter_columns(),
                )
            ]
        ),
        "vocabularies": vocabulary,
    }
    folder = Path(sys.argv[1]) / project.name / candidate
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(trained.onnx)
    (folder / "model.json").write_text(json.dumps(manifest))
    mlflow.set_experiment(project.name)
    with mlflow.start_run() as run:
        logged = mlflow.onnx.log_model(
            onnx.load(io.BytesIO(trained.onnx)),
            name="model",
            extra_files=[str(folder / "model.json")],
            pip_requirements=["onnxruntime"],
            save_as_external_data=False,
        )
    tags = {
        "phaseflow.sha256": manifest["sha256"],
        "phaseflow.manifest_sha256": hashlib.sha256((folder / "model.json").read_bytes()).hexdigest(),
        "phaseflow.candidate": candidate,
        "phaseflow.verdict": "passed",
    }
    version = client.create_model_version(
        project.name, logged.model_uri, run_id=run.info.run_id, tags=tags, model_id=logged.model_id
    )
    return {"version": str(version.version), "answers": {name: values.tolist() for name, values in outputs.items()}}


def main() -> None:
    """Publish all candidates of all projects."""
    settings = from_environment()
    mlflow.set_tracking_uri(settings.mlflow_url)
    client = mlflow.MlflowClient()
    for name, candidates in CANDIDATES.items():
        project = discovery.get(name)
        rows = source.rows(source.load(project, settings, Store(settings.store)), project)
        client.create_registered_model(name)
        versions = {candidate: publish(client, project, rows, candidate) for candidate in candidates}
        features = sent(rows, project.schema)
        labels = rows[project.schema.target.name].to_list() if project.schema.target else []
        (Path(sys.argv[1]) / f"{name}.json").write_text(
            json.dumps({"rows": features, "labels": labels, "versions": versions})
        )


if __name__ == "__main__":
    main()
