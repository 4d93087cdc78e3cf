"""A project's folder from its parts: what every kind of new project shares."""

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

from phaseflow.errors import DataError, PlatformError
from phaseflow.scaffold.code import Call, render
from phaseflow.store import write_atomic

SEED: Final = 7
FOLDS: Final = 4
LARGE: Final = 1_000_000
"""Bytes above which a file is kept gzipped."""
MOST_ROWS: Final = 3000
"""Rows that the quick model looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Balanced accuracy, which no class can hide from."""

    baseline: float
    """Of a guess."""
    quick: float
    """Of the simplest model, cross-validated."""
    bound: float
    """What the gate will ask for: halfway, less where the folds differ much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What `phaseflow new` tells of a project of texts or images, and the files of its folder."""

    files: Mapping[str, bytes]
    task: str
    target: str
    classes: tuple[str, ...]
    rows: int
    quality: Quality
    notes: tuple[str, ...] = ()


def packed(content: bytes) -> bytes:
    """A file as the project's folder keeps it."""
    return content if len(content) <= LARGE or content.startswith(b"\x1f\x8b") else gzip.compress(content, mtime=0)


def publish(into: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """Write `into/name`: the whole folder appears at once, or none of it; raises PlatformError where it can't be written."""
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


def judged(model: Any, values: Any, truth: Any) -> Quality:
    """What `model` reaches on rows [N] by cross-validation; raises DataError where a class has fewer rows than folds."""
    _, counts = np.unique(truth, return_counts=True)
    if counts.min() < FOLDS:
        raise DataError(
            f"A class has {counts.min()} rows; allowed: {FOLDS} or more", fix="Collect more of it, or leave it out"
        )
    chosen = np.random.default_rng(SEED).permutation(len(truth))[:MOST_ROWS]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    found = cross_val_score(model, values[chosen], truth[chosen], cv=folds, scoring="balanced_accuracy")
    baseline, quick = 1 / len(counts), float(found.mean())
    margin = max((quick - baseline) / 2, 4 * float(found.std()), 0.02)
    return Quality(
        baseline=round(baseline, 3), quick=round(quick, 3), bound=round(max(quick - margin, baseline / 2), 3)
    )


def declaration(
    name: str,
    title: str,
    *,
    what: str,
    task: str,
    source: Mapping[str, Any],
    feature: Call,
    target: Call,
    candidates: Mapping[str, Mapping[str, Any]],
    quality: Quality,
    example: Mapping[str, Any],
    tags: tuple[str, ...],
) -> str:
    """The text of `project.py`."""
    value = Call(
        "Project",
        by_name={
            "name": name,
            "title": title,
            "phase": 3,
            "task": task,
            "description": f"{title}: {what}.",
            "source": Call("Source", by_name={**source, "sample": f"{name}.data:sample", "read": f"{name}.data:read"}),
            "schema": Call("Schema", by_name={"features": (feature,), "target": target}),
            "transform": f"{name}.data:transform",
            "train": f"{name}.model:train",
            "candidates": tuple(
                Call("Candidate", by_name={"name": one, "params": params}) for one, params in candidates.items()
            ),
            "metrics": (
                Call("Metric", by_name={"name": "balanced_accuracy", "bound": quality.bound}),
                *(Call("Metric", by_name={"name": other}) for other in ("accuracy", "log_loss")),
            ),
            "gate": Call("Gate", by_name={"minimum_gain": 0.002}),
            "drift": Call("Drift", by_name={"scenario": f"{name}.world:drift"}),
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
    """The text of the project's own test."""
    return f'''"""Every candidate learns the file, and answers what a client sends."""

import pytest

from phaseflow.toolkit import graph, source
from projects.{name}.data import read, sample
from projects.{name}.model import train
from projects.{name}.project import project


@pytest.fixture(scope="module")
def rows():
    return source.rows(source.Loaded(frame=read(sample(project.seed)), origin="sample", sha256=""), project)


@pytest.mark.parametrize("candidate", project.candidates, ids=lambda candidate: candidate.name)
def test_each_candidate_answers_with_a_class(rows, candidate):
    trained = train(rows.head(2000), project, candidate)
    said = graph.run(trained.onnx, graph.feed(rows.head(5), project.schema))["label"]
    assert set(said) <= set(project.schema.target.allowed)
'''


def readme(
    title: str, name: str, *, what: str, made_of: str, quality: Quality, send: str, notes: tuple[str, ...]
) -> str:
    """The text of `README.md`."""
    told = "".join(f"\n- {note}" for note in notes)
    return f"""# {title}

This project {what}. It was made from {made_of}, and all of it can be changed: `project.py` declares it, `data.py` reads the
file, `model.py` trains, `world.py` is the changed world that a rehearsal of drift plays.
{told}

## What was measured

| | balanced accuracy |
| --- | --- |
| a guess | {quality.baseline:g} |
| a quick model, cross-validated | {quality.quick:g} |
| the gate's bound | {quality.bound:g} |

## Run it

```
phaseflow run {name}
{send}
phaseflow traffic {name} --drift --feedback
```
"""
