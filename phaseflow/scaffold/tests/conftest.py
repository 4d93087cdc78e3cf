import importlib
import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import projects
from phaseflow import registry
from phaseflow.scaffold.__main__ import create
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit import graph, source

DATA = Path(__file__).parents[4] / "shared" / "data"
_numbers = itertools.count()


@pytest.fixture(scope="session")
def real():
    def find(name):
        if not (DATA / name).is_file():
            pytest.skip(f"{name} is not beside the checkout, in ../shared/data")
        return (DATA / name).read_bytes()

    return find


@pytest.fixture(scope="session")
def make(tmp_path_factory):
    """Scaffold a project from a file's content, and import it: the project, its folder, its plan, what was measured."""
    into = tmp_path_factory.mktemp("projects")
    projects.__path__.append(str(into))

    def scaffold(content, target, **options):
        name = f"made_{next(_numbers)}"
        csv = into.parent / f"{name}.csv"
        csv.write_bytes(content if isinstance(content, bytes) else content.encode())
        plan, measured, folder = create(name, csv, target, into, **options)
        importlib.invalidate_caches()
        return registry.get(name), folder, plan, measured

    yield scaffold
    projects.__path__.remove(str(into))


@pytest.fixture(scope="session")
def loop(tmp_path_factory):
    """Extract, validate, snapshot, train every candidate, ask each: the splits, and models by candidate."""

    def turn(project):
        store = Store(str(tmp_path_factory.mktemp("store")))
        step = {name: importlib.import_module(f"pipelines.etl.{name}") for name in ("extract", "validate", "snapshot")}
        extracted = step["extract"].extract(project, "run", from_environment({}), store)
        step["validate"].validate(project, "run", store)
        found = step["snapshot"].snapshot(project, "run", store, extracted)
        folder = store.path(f"datasets/{project.name}/{found['snapshot']}")
        train, holdout = (pl.read_parquet(folder / f"{side}.parquet") for side in ("train", "holdout"))
        fit = registry.load(project.train)
        models = {candidate.name: fit(train, project, candidate) for candidate in project.candidates}
        target = project.schema.target.name
        example = pl.DataFrame([dict(project.example) | {target: None}], infer_schema_length=None)
        for model in models.values():
            for rows in (holdout, source.conform(example, project.schema)):
                answer = predict(model, rows, project)
                assert len(answer) == len(rows)
                if project.task == "classification":
                    assert set(answer) <= set(project.schema.target.allowed)
                else:
                    assert np.isfinite(answer).all()
        drifted = registry.load(project.drift.scenario)(
            holdout.select(column.name for column in project.schema.columns), np.random.default_rng(0)
        )
        refused = importlib.import_module("pipelines.etl.validate").refused(drifted, project.schema)
        assert not refused  # a rehearsed drift is traffic that the service takes
        return train, holdout, models

    return turn


def predict(model, rows, project):
    answer = graph.run(model.onnx, graph.feed(rows, project.schema))
    return answer["label" if project.task == "classification" else "value"]
