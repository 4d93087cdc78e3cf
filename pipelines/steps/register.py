"""Log every candidate as an MLflow run and register the winner with all that serving and users need."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import polars as pl
from mlflow.data.pandas_dataset import from_pandas
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from phaseflow import discovery, events, formats, personal, prediction_types, reference
from phaseflow.contract import Project
from phaseflow.settings import ROOT, from_environment
from phaseflow.toolkit import graph
from phaseflow.toolkit.newest import newest_traffic
from phaseflow.toolkit.scalars import prediction_vocabulary, vocabularies
from pipelines.steps import bins, card, data, flavor, plots, tracking
from pipelines.steps import champion as champions
from pipelines.steps.champion import AGAINST, CONFIRMS, DRIFT, LOOK, Champion


def code_version() -> str:
    """Return the image's version, or else the commit of the checkout."""
    version = os.environ.get("PHASEFLOW_CODE_VERSION")
    git = shutil.which("git")
    if version or git is None:
        return version or "unknown"
    completed = subprocess.run(
        [git, "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    )
    return completed.stdout.strip() or "unknown"


def manifest(
    project: Project, about: Mapping[str, Any], content: bytes, verdict: Mapping[str, Any], snapshot: str, run: str
) -> dict[str, Any]:
    """Return the content of `model.json`, which serving needs."""
    train = data.split(project, snapshot, "train")
    rows = newest_traffic(project, train)
    outputs = graph.run(content, graph.feed(rows, project.schema))
    target = project.schema.target
    predictions = prediction_types.values(outputs, target, about["classes"])
    vocabulary = vocabularies(project.schema, rows, train) | prediction_vocabulary(target, predictions)
    vocabulary = {name: words for name, words in vocabulary.items() if name not in personal.omitted(project)}
    return {
        "format": formats.MODEL,
        "project": project.name,
        "task": project.task,
        "candidate": about["candidate"],
        "sha256": hashlib.sha256(content).hexdigest(),
        "inputs": [
            {"name": column.name, "kind": column.kind} | ({"shape": list(column.shape)} if column.shape else {})
            for column in project.schema.features
        ],
        "classes": about["classes"] or None,
        "snapshot": snapshot,
        "run": run,
        "created": datetime.now(UTC).isoformat(),
        "metrics": about["metrics"] | about.get("losses", {}),
        "verdict": verdict["passed"],
        "reference": reference.to_json(bins.reference(project, rows, predictions, vocabulary)),
        "vocabularies": vocabulary,
    }


def impersonal(rows: pl.DataFrame, project: Project) -> pl.DataFrame:
    """Return rows [N] for use as an example, without personal values that are not hashed."""
    return rows.with_columns(pl.lit(None, rows.schema[name]).alias(name) for name in personal.omitted(project))


def note_tags(notes: Mapping[str, str]) -> dict[str, str]:
    """Convert training notes to run tags. MLflow allows letters, digits and `_-./ ` in tag names."""
    return {f"note.{re.sub(r'[^A-Za-z0-9_./ -]', '', name)}": value for name, value in notes.items()}


def find_version(client: mlflow.MlflowClient, project: Project, run: str, *, confirms: bool = False) -> Any | None:
    """Return the version that an earlier attempt of this run registered: the challenger, or the confirmed champion."""
    try:
        versions = client.search_model_versions(f"name = '{project.name}'", max_results=200)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    of_run = (version for version in versions if version.tags.get("phaseflow.run") == run)
    return next((version for version in of_run if (CONFIRMS in version.tags) == confirms), None)


def register(
    project_name: str,
    snapshot: str,
    run: str,
    evaluation: Mapping[str, Any],
    verdict: Mapping[str, Any],
    folders: Mapping[str, Path],
) -> dict[str, Any]:
    """Log the candidates, register the winner and store the verdict. A retry reuses the version of the first attempt.

    Raises PlatformError if MLflow can't be reached.
    """
    warnings.filterwarnings("ignore", module="mlflow")
    project = discovery.get(project_name)
    client = tracking.client()
    challenger = tracking.translate_errors(lambda: find_version(client, project, run))
    if challenger is None:
        tracking.translate_errors(lambda: mlflow.set_experiment(project.name))
        challenger = tracking.translate_errors(
            lambda: _log(client, project, snapshot, run, evaluation, verdict, folders)
        )
    version = str(challenger.version)
    tracking.translate_errors(lambda: client.set_registered_model_alias(project.name, "challenger", version))
    champion = evaluation.get("champion")
    confirmed = None
    if champion is not None and verdict["confirmed"]:
        confirmed = tracking.translate_errors(lambda: find_version(client, project, run, confirms=True))
        current_champion = champions.fetch(project) if confirmed is None else None
        # If the alias has moved in the meantime, the evaluation was about another champion.
        if current_champion is not None and current_champion.version == champion["version"]:
            confirmed = tracking.translate_errors(
                lambda: _confirm(client, project, snapshot, run, evaluation, current_champion)
            )
    about: dict[str, str | None] = {"project": project.name, "run": run, "snapshot": snapshot, "version": version}
    about["confirmed"] = None if confirmed is None else str(confirmed.version)
    result = _result(about, evaluation, verdict)
    store = data.store()
    store.write(f"runs/{project.name}/{run}/verdict.json", json.dumps(result, indent=1).encode())
    events.record(store, project, "verdict", result, source="pipelines")
    return result


def _result(
    about: Mapping[str, str | None], evaluation: Mapping[str, Any], verdict: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the verdict that is stored, whose project, run, snapshot and versions are `about`."""
    champion = evaluation.get("champion")
    winner = evaluation["candidates"][verdict["candidate"]]
    return {
        "project": about["project"],
        "run": about["run"],
        "snapshot": about["snapshot"],
        "passed": verdict["passed"],
        "candidate": verdict["candidate"],
        "version": about["version"],
        "confirmed": about["confirmed"],
        "champion": champion["version"] if champion else None,
        "champion_candidate": champion["candidate"] if champion else None,
        "reason": verdict["reason"],
        "why": verdict["why"],
        "source": evaluation["source"],
        "rows": {"train": winner["rows"], "holdout": evaluation["rows"]},
        "metrics": winner["metrics"],
        "intervals": winner["intervals"],
        "champion_metrics": champion["metrics"] if champion else None,
        "gain": champion["gain"] if champion else None,
        "newest": champion["newest"] if champion else None,
        "trusted": champion["trusted"] if champion else None,
        "look": evaluation["look"],
        "checks": list(verdict["checks"]),
        "candidates": {
            name: {
                key: candidate[key]
                for key in ("selection", "metrics", "intervals", "calibration", "seconds", "latency_ms", "size_mb")
            }
            for name, candidate in evaluation["candidates"].items()
        },
        "created": datetime.now(UTC).isoformat(),
    }


def _log(
    client: mlflow.MlflowClient,
    project: Project,
    snapshot: str,
    run: str,
    evaluation: Mapping[str, Any],
    verdict: Mapping[str, Any],
    folders: Mapping[str, Path],
) -> Any:
    source = data.manifest(project, snapshot)
    train = data.split(project, snapshot, "train")
    columns = [column.name for column in project.schema.columns]
    dataset = from_pandas(
        pd.DataFrame(train.select(columns).to_dict(as_series=False)),
        source=data.store().uri(f"datasets/{project.name}/{snapshot}/train.parquet"),
        name=f"{project.name}-{snapshot}",
        digest=snapshot,
    )
    tags = _tags(project, snapshot, run, evaluation)
    winner = verdict["candidate"]
    version: Any = None
    for name, about in evaluation["candidates"].items():
        with mlflow.start_run(
            run_name=f"{name} {run}", tags=tags | {"phaseflow.candidate": name} | note_tags(about["notes"])
        ) as active:
            mlflow.log_params({"candidate": name, **about["params"], "train_rows": about["rows"], "seed": project.seed})
            values = {key: value for key, value in about["metrics"].items() if value is not None}
            chosen_by = about["selection"]
            if chosen_by["value"] is not None:
                values[f"selection_{chosen_by['metric']}"] = chosen_by["value"]
            for metric, span in about["intervals"].items():
                if span:
                    values |= {f"{metric}_low": span[0], f"{metric}_high": span[1]}
            values |= {
                "train_seconds": about["seconds"],
                "latency_ms": about["latency_ms"],
                "size_mb": about["size_mb"],
            }
            mlflow.log_input(dataset, context="training")
            for picture in sorted((folders[name] / "pictures").glob("*")):
                mlflow.log_artifact(str(picture), "plots")
            if name != winner:
                mlflow.log_metrics(values)
                continue
            for file, drawn in plots.plots(project, evaluation).items():
                mlflow.log_figure(drawn, f"plots/{file}.png")
            content = (folders[name] / "model.onnx").read_bytes()
            about_model = manifest(project, about, content, verdict, snapshot, run)
            text = card.card(project, evaluation, verdict, source, tags)
            mlflow.log_text(text, "model_card.md")
            run_id = active.info.run_id
            version = _version(client, project, train, content, about_model, text, run_id, tags, verdict, values)
    return version


def _tags(project: Project, snapshot: str, run: str, evaluation: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a version: its origin, its look at the holdout, and the drift of its rows."""
    champion = evaluation.get("champion")
    look_tags = {}
    if champion:
        look_tags = {AGAINST: str(champion["version"]), LOOK: json.dumps(evaluation["look"], separators=(",", ":"))}
        if champion["drift"]:
            look_tags[DRIFT] = json.dumps(champion["drift"], separators=(",", ":"))
    return look_tags | {
        "phaseflow.project": project.name,
        "phaseflow.run": run,
        "phaseflow.snapshot": snapshot,
        "phaseflow.source": str(data.manifest(project, snapshot)["source"]),
        "phaseflow.code": code_version(),
        "phaseflow.pipeline": from_environment().pipelines_url,
    }


def _confirm(
    client: mlflow.MlflowClient,
    project: Project,
    snapshot: str,
    run: str,
    evaluation: Mapping[str, Any],
    champion: Champion,
) -> Any:
    """Register the champion's own model again, with the reference and metrics of the new rows."""
    mlflow.set_experiment(project.name)
    train, champion_evaluation = data.split(project, snapshot, "train"), evaluation["champion"]
    tags = _tags(project, snapshot, run, evaluation) | {CONFIRMS: champion.version}
    about = {"candidate": champion.candidate, "classes": list(champion.classes)} | {
        key: champion_evaluation[key] for key in ("metrics", "losses")
    }
    passed = {"candidate": champion.candidate, "passed": True}
    text = card.confirmation(project, evaluation, tags)
    about_model = manifest(project, about, champion.onnx, passed, snapshot, run)
    run_name = f"{champion.candidate} {run} confirmed"
    with mlflow.start_run(run_name=run_name, tags=tags | {"phaseflow.candidate": champion.candidate}) as active:
        mlflow.log_text(text, "model_card.md")
        metrics = {key: value for key, value in champion_evaluation["metrics"].items() if value is not None}
        run_id = active.info.run_id
        return _version(client, project, train, champion.onnx, about_model, text, run_id, tags, passed, metrics)


def _version(
    client: mlflow.MlflowClient,
    project: Project,
    train: pl.DataFrame,
    content: bytes,
    about: Mapping[str, Any],
    text: str,
    run_id: str,
    tags: Mapping[str, str],
    verdict: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> Any:
    """Log the model and its metrics, and register the model. A registered version therefore has all of them."""
    manifest_bytes = json.dumps(about, separators=(",", ":")).encode()
    logged = Model.log(
        None,
        flavor,
        name="model",
        metadata={"phaseflow.snapshot": about["snapshot"]},
        content=content,
        manifest=manifest_bytes,
        schema=project.schema,
        classes=about["classes"],
        example=impersonal(train.head(2), project),
    )
    with tempfile.TemporaryDirectory() as folder:
        # MLflow serializes the graph again, so the digest is computed from the file that will be served.
        local = Path(mlflow.artifacts.download_artifacts(artifact_uri=logged.model_uri, dst_path=folder))
        served = hashlib.sha256(next(local.rglob("model.onnx")).read_bytes()).hexdigest()
    # After the model, because MLflow would copy the run's metrics to the model with one request per metric.
    mlflow.log_metrics(dict(metrics), model_id=logged.model_id)
    if served != about["sha256"]:
        raise MlflowException(f"MLflow changed the model: {about['sha256']} became {served}")
    try:
        client.create_registered_model(project.name, description=f"{project.title}. {project.description}")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(
        project.name,
        logged.model_uri,
        run_id=run_id,
        description=text,
        tags=dict(tags)
        | {
            "phaseflow.sha256": about["sha256"],
            "phaseflow.manifest_sha256": hashlib.sha256(manifest_bytes).hexdigest(),
            "phaseflow.verdict": "passed" if verdict["passed"] else "failed",
            "phaseflow.candidate": about["candidate"],
        },
        model_id=logged.model_id,
    )
