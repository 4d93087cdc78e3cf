import importlib
import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cli.scaffold.__main__ import create
from phaseflow import discovery
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.testing import more_projects
from phaseflow.toolkit import graph, source

DATA = Path(__file__).parents[4] / "shared" / "data"
_numbers = itertools.count()


GENERATOR = np.random.default_rng(11)


def csv(columns, rows, separator=","):
    lines = [columns, *rows]
    return "\n".join(separator.join(str(cell) for cell in line) for line in lines) + "\n"


def points(count=80, extra=lambda x: x * 3):
    """Rows of a number, a category and a label that depends on both."""
    x, c = GENERATOR.normal(size=count).round(4), GENERATOR.choice(["a", "b"], count)
    noise = GENERATOR.normal(size=count).round(4)
    return [(a, b, round(extra(a) + 2 * (b == "b") + 0.1 * n, 4)) for a, b, n in zip(x, c, noise, strict=True)]


@pytest.fixture(scope="session")
def real():
    def find(name):
        if not (DATA / name).is_file():
            pytest.skip(f"{name} is missing in ../shared/data, beside the checkout")
        return (DATA / name).read_bytes()

    return find


@pytest.fixture(scope="session")
def make(tmp_path_factory):
    """Generate and import a project. Returns the project, its folder, its plan and its measurement."""
    into = tmp_path_factory.mktemp("projects")

    def scaffold(content, target, **options):
        name = f"made_{next(_numbers)}"
        csv = into.parent / f"{name}.csv"
        csv.write_bytes(content if isinstance(content, bytes) else content.encode())
        plan, measurement, folder = create(name, csv, target, into, **options)
        importlib.invalidate_caches()
        return discovery.get(name), folder, plan, measurement

    with more_projects(into):
        yield scaffold


@pytest.fixture(scope="session")
def loop(tmp_path_factory):
    """Run the ETL, train every candidate and predict. Returns the two splits and the models by candidate."""

    def turn(project):
        store = Store(str(tmp_path_factory.mktemp("store")))
        step = {name: importlib.import_module(f"pipelines.etl.{name}") for name in ("extract", "validate", "snapshot")}
        extracted = step["extract"].extract(project, "run", from_environment({}), store)
        step["validate"].validate(project, "run", store)
        snapshot_result = step["snapshot"].snapshot(project, "run", store, extracted)
        folder = store.path(f"datasets/{project.name}/{snapshot_result['snapshot']}")
        train, holdout = (pl.read_parquet(folder / f"{side}.parquet") for side in ("train", "holdout"))
        fit = discovery.load(project.train)
        models = {candidate.name: fit(train, project, candidate) for candidate in project.candidates}
        target = project.schema.target.name
        example = pl.DataFrame([dict(project.example) | {target: None}], infer_schema_length=None)
        for model in models.values():
            for rows in (holdout, source.conform(example, project.schema)):
                predictions = predict(model, rows, project)
                assert len(predictions) == len(rows)
                if project.task == "classification":
                    assert set(predictions) <= set(project.schema.target.allowed)
                else:
                    assert np.isfinite(predictions).all()
        drifted = discovery.load(project.drift.scenario)(
            holdout.select(column.name for column in project.schema.columns), np.random.default_rng(0)
        )
        refused = importlib.import_module("pipelines.etl.validate").refused(drifted, project.schema)
        assert not refused  # the service accepts rows with simulated drift
        return train, holdout, models

    return turn


def predict(model, rows, project):
    outputs = graph.run(model.onnx, graph.feed(rows, project.schema))
    return outputs["label" if project.task == "classification" else "value"]
