"""Renders the tests and the README."""

from __future__ import annotations

from cli.scaffold.measure import Measurement
from cli.scaffold.plan import Plan
from cli.scaffold.table.origin import Origin, line, what


def tests(name: str) -> str:
    """The content of the project's test module."""
    return f"""import polars as pl
import pytest

from phaseflow.toolkit import graph, source
from projects.{name}.data import read, sample
from projects.{name}.model import train
from projects.{name}.project import project


@pytest.fixture(scope="module")
def rows():
    loaded = source.Loaded(frame=read(sample(project.seed)), origin="sample", sha256="")
    return source.rows(loaded, project)


def test_most_rows_are_usable(rows):
    assert len(rows) >= (1 - project.quarantine_share) * len(read(sample(project.seed)))


@pytest.mark.parametrize("candidate", project.candidates, ids=lambda candidate: candidate.name)
def test_each_candidate_predicts_the_example(rows, candidate):
    trained = train(rows.head(2000), project, candidate)
    values = {{name: pl.lit(value) for name, value in project.example.items()}}
    example = source.conform(rows.head(1).with_columns(**values), project.schema)
    outputs = graph.run(trained.onnx, graph.feed(example, project.schema))
    assert len(outputs["label" if project.task == "classification" else "value"]) == 1
"""


def readme(origin: Origin, plan: Plan, measurement: Measurement) -> str:
    """The content of `README.md`."""
    used_columns = {feature.source.source for feature in plan.features}
    lines = [
        f"| {line(column.source)} | {column.kind} | {column.missing} | {line(column.note)} |"
        for column in (*plan.columns, plan.target)
        if column.source in used_columns or column.kind == "dropped" or column is plan.target
    ]
    notes = "".join(f"\n- {line(note, 400)}" for note in plan.notes)
    return f"""# {origin.title}

This project {what(plan)}. It was generated from `{line(origin.file)}` ({len(plan.rows):,} usable rows).

Every file can be edited: `project.py` declares the project, `data.py` reads the file, `model.py` trains the candidates, and
`drift.py` simulates drift for `phaseflow traffic --drift`.

## Columns

| column | kind | missing | note |
| --- | --- | --- | --- |
{chr(10).join(lines)}
{notes}
{"" if not notes else chr(10)}Requests send a date as numbers: days since 1970-01-01, month, weekday and hour, as far as these vary. Over time, the days
leave the range of the training data. This is drift, and retraining on the newest rows corrects it.

## Quality

| | {measurement.metric} |
| --- | --- |
| baseline: a constant prediction | {measurement.baseline:g} |
| quick model, cross-validated | {measurement.quick:g} |
| threshold of the gate | {measurement.threshold:g} |

## Usage

```
phaseflow run {origin.name}
phaseflow traffic {origin.name} --drift --feedback
```
"""
