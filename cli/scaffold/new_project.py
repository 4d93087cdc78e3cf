"""Files that all generated projects have in common."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from sklearn.model_selection import StratifiedKFold, cross_val_score

from cli.scaffold.code import Call, render
from phaseflow.errors import DataError, PlatformError
from phaseflow.store import write_atomic

SEED: Final = 7
FOLDS: Final = 4
LARGE: Final = 1_000_000
"""Size in bytes above which a data file is gzipped."""
MAX_ROWS: Final = 3000
"""Maximum number of rows for the quick model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Balanced accuracy, to which every class contributes equally."""

    baseline: float
    """Score of a random guess."""
    quick: float
    """Cross-validated score of a simple model."""
    threshold: float
    """Threshold for the gate: halfway between the two, lower if the folds vary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProject:
    """The files and the summary of a generated project of texts or images."""

    files: Mapping[str, bytes]
    target: str
    classes: tuple[str, ...]
    rows: int
    quality: Quality
    notes: tuple[str, ...] = ()


def compress_if_large(content: bytes) -> bytes:
    """Gzip a data file if it is large and not yet compressed."""
    return content if len(content) <= LARGE or content.startswith(b"\x1f\x8b") else gzip.compress(content, mtime=0)


def publish(into: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """Write the folder `into/name` atomically. Raises PlatformError if it can't be written."""
    folder = into / name
    into.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=into))
    try:
        unfinished.chmod(0o755)
        for path, content in files.items():
            write_atomic(unfinished / path, content)
        unfinished.rename(folder)
    except OSError as error:
        raise PlatformError(
            f"{folder} can't be written: {error.strerror}", fix="Correct the folder, then try again"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def measure_quality(model: Any, values: Any, label: Any) -> Quality:
    """Cross-validate `model` on rows [N]. Raises DataError if a class has fewer rows than folds."""
    _, counts = np.unique(label, return_counts=True)
    if counts.min() < FOLDS:
        raise DataError(
            f"A class has {counts.min()} rows; allowed: {FOLDS} or more",
            fix="Collect more rows of this class, or remove it",
        )
    sample = np.random.default_rng(SEED).permutation(len(label))[:MAX_ROWS]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    scores = cross_val_score(model, values[sample], label[sample], cv=folds, scoring="balanced_accuracy")
    baseline, quick = 1 / len(counts), float(scores.mean())
    margin = max((quick - baseline) / 2, 4 * float(scores.std()), 0.02)
    return Quality(
        baseline=round(baseline, 3), quick=round(quick, 3), threshold=round(max(quick - margin, baseline / 2), 3)
    )


def declaration(
    name: str,
    title: str,
    *,
    what: str,
    source: Mapping[str, Any],
    feature: Call,
    target: Call,
    candidates: Mapping[str, Mapping[str, Any]],
    quality: Quality,
    example: Mapping[str, Any],
    tags: tuple[str, ...],
) -> str:
    """The content of `project.py`."""
    value = Call(
        "Project",
        kwargs={
            "name": name,
            "title": title,
            "phase": 3,
            "description": f"{title}: {what}.",
            "source": Call("Source", kwargs={**source, "sample": f"{name}.data:sample", "read": f"{name}.data:read"}),
            "schema": Call("Schema", kwargs={"features": (feature,), "target": target}),
            "transform": f"{name}.data:transform",
            "train": f"{name}.model:train",
            "candidates": tuple(
                Call("Candidate", kwargs={"name": candidate, "params": params})
                for candidate, params in candidates.items()
            ),
            "metrics": (
                Call("Metric", kwargs={"name": "balanced_accuracy", "threshold": quality.threshold}),
                *(Call("Metric", kwargs={"name": metric}) for metric in ("accuracy", "log_loss")),
            ),
            "gate": Call("Gate", kwargs={"minimum_gain": 0.002}),
            "drift": Call("Drift", kwargs={"scenario": f"{name}.drift:simulate"}),
            "example": example,
            "tags": tags,
        },
    )
    return (
        f'"""{title}: {what}."""\n\n'
        "from phaseflow import Candidate, Column, Drift, Gate, Metric, Project, Schema, Source\n\n"
        f"project = {render(value, before=len('project = '))}\n"
    )


def tests(name: str) -> str:
    """The content of the project's test module."""
    return f'''"""Tests of every candidate: training on the file, and predictions."""

import pytest

from phaseflow.toolkit import graph, source
from projects.{name}.data import read, sample
from projects.{name}.model import train
from projects.{name}.project import project


@pytest.fixture(scope="module")
def rows():
    return source.rows(source.Loaded(frame=read(sample(project.seed)), origin="sample", sha256=""), project)


@pytest.mark.parametrize("candidate", project.candidates, ids=lambda candidate: candidate.name)
def test_each_candidate_predicts_a_class(rows, candidate):
    trained = train(rows.head(2000), project, candidate)
    labels = graph.run(trained.onnx, graph.feed(rows.head(5), project.schema))["label"]
    assert set(labels) <= set(project.schema.target.allowed)
'''


def readme(
    title: str, name: str, *, what: str, source_text: str, quality: Quality, send: str, notes: tuple[str, ...]
) -> str:
    """The content of `README.md`."""
    note_lines = "".join(f"\n- {note}" for note in notes)
    return f"""# {title}

This project {what}. It was generated from {source_text}.

Every file can be edited: `project.py` declares the project, `data.py` reads the data, `model.py` trains the candidates, and
`drift.py` simulates drift for `phaseflow traffic --drift`.
{note_lines}

## Quality

| | balanced accuracy |
| --- | --- |
| baseline: a random guess | {quality.baseline:g} |
| quick model, cross-validated | {quality.quick:g} |
| threshold of the gate | {quality.threshold:g} |

## Usage

```
phaseflow run {name}
{send}
phaseflow traffic {name} --drift --feedback
```
"""
