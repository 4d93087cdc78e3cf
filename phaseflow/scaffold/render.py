"""The files of a project, from its plan and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from phaseflow.scaffold.code import Call, quote, render
from phaseflow.scaffold.measure import Measured
from phaseflow.scaffold.plan import Plan
from phaseflow.toolkit.delimited import Dialect

SEED: Final = 7
FEW_FEATURES: Final = 20
"""Above it only the most telling ones are watched: each one watched is a chance of a false alarm."""
MOST_WATCHED: Final = 12
TRAINED_ROWS: Final = 20_000
"""Rows that one tree looks at, so that a large file trains in minutes."""
OTHER_METRICS: Final[Mapping[str, tuple[str, ...]]] = {
    "roc_auc": ("accuracy", "log_loss"),
    "balanced_accuracy": ("accuracy", "log_loss"),
    "r2": ("mae", "rmse"),
}
ESTIMATORS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "classification": {
        "logistic_regression": ("linear_model", "LogisticRegression"),
        "random_forest": ("ensemble", "RandomForestClassifier"),
        "gradient_boosting": ("ensemble", "GradientBoostingClassifier"),
    },
    "regression": {
        "ridge": ("linear_model", "Ridge"),
        "random_forest": ("ensemble", "RandomForestRegressor"),
        "gradient_boosting": ("ensemble", "GradientBoostingRegressor"),
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a project comes from."""

    name: str
    """The project's."""
    file: str
    """The CSV's name."""
    content: bytes
    """What will stand in the project's folder, gzipped or not."""
    url: str = ""
    sha256: str = ""
    """Of the file at `url`."""

    @property
    def title(self) -> str:
        """The name as people write it."""
        return self.name.replace("_", " ").capitalize()

    @property
    def stored(self) -> str:
        """The data's file in the project's folder."""
        return "data.csv.gz" if self.content.startswith(b"\x1f\x8b") else "data.csv"


def files(origin: Origin, plan: Plan, measured: Measured) -> dict[str, str]:
    """Source files by their path in the project's folder."""
    return {
        "__init__.py": f'"""{origin.title}: {_what(plan)}."""\n',
        "project.py": _project(origin, plan, measured),
        "data.py": _data(origin, plan),
        "model.py": _model(plan),
        "world.py": _world(plan, measured),
        f"tests/test_{origin.name}.py": _tests(origin.name),
        "README.md": _readme(origin, plan, measured),
    }


def watched(plan: Plan, measured: Measured) -> tuple[str, ...]:
    """Features whose drift is watched; empty means all."""
    return () if len(plan.features) <= FEW_FEATURES else tuple(measured.importance)[:MOST_WATCHED]


def _what(plan: Plan) -> str:
    target = plan.target.source[:60].replace("\n", " ").replace('"', "'").replace("\\", "/")
    if plan.task == "regression":
        return f"predicts {target}, a number"
    return f"tells {target}, one of {len(plan.classes)} classes"


def _project(origin: Origin, plan: Plan, measured: Measured) -> str:
    name, title = origin.name, origin.title
    source = {
        "url": origin.url,
        "mirror": f"{name}/{origin.stored}",
        "sample": f"{name}.data:sample",
        "read": f"{name}.data:read",
    }
    if origin.url:
        source["sha256"] = origin.sha256
    drift: dict[str, Any] = {"scenario": f"{name}.world:drift"}
    if features := watched(plan, measured):
        drift = {"features": features} | drift
    # The margin over what was measured: later files are a little dirtier, or cleaner.
    quarantine = round(min(1.0, plan.unusable * 1.2 + 0.05), 3)
    first = Call("Metric", by_name={"name": measured.metric, "bound": measured.bound})
    value = Call(
        "Project",
        by_name={
            "name": name,
            "title": title,
            "phase": 2,
            "task": plan.task,
            "description": f"{title}: {_what(plan)}.",
            "source": Call("Source", by_name=source),
            "schema": Call("Schema", by_name={"features": _columns(plan), "target": _target(plan)}),
            "transform": f"{name}.data:transform",
            "train": f"{name}.model:train",
            "candidates": tuple(
                Call("Candidate", by_name={"name": algorithm, "params": params})
                for algorithm, params in _candidates(plan).items()
            ),
            "metrics": (first, *(Call("Metric", by_name={"name": other}) for other in OTHER_METRICS[measured.metric])),
            "gate": Call("Gate", by_name={"minimum_gain": 0.002}),
            "drift": Call("Drift", by_name=drift),
            "quarantine_share": quarantine,
            "example": _example(plan),
            "tags": ("tabular",),
        },
    )
    return (
        f'"""{title}: {_what(plan)}."""\n\n'
        "from phaseflow import Candidate, Column, Drift, Gate, Metric, Project, Schema, Source\n\n"
        f"project = {render(value, before=len('project = '))}\n"
    )


def _columns(plan: Plan) -> tuple[Call, ...]:
    calls = []
    for feature in plan.features:
        given: dict[str, Any] = {"name": feature.name, "kind": feature.kind}
        if feature.nullable:
            given["nullable"] = True
        if feature.part == "days":
            given["unit"] = "days since 1970-01-01"
        elif feature.source.unit:
            given["unit"] = feature.source.unit
        if feature.part in {"month", "hour"} or feature.source.source != feature.name:
            given["description"] = (
                f"{feature.part} of {_line(feature.source.source)}" if feature.part else _line(feature.source.source)
            )
        if feature.part == "weekday":
            given["description"] = f"day of the week of {_line(feature.source.source)}, 1 is Monday"
        calls.append(Call("Column", by_name=given))
    return tuple(calls)


def _target(plan: Plan) -> Call:
    given: dict[str, Any] = {"name": plan.target.name, "kind": plan.target.kind}
    if plan.classes:
        given["allowed"] = plan.classes
    if plan.target.unit:
        given["unit"] = plan.target.unit
    return Call("Column", by_name=given)


def _candidates(plan: Plan) -> dict[str, dict[str, Any]]:
    """Algorithms and settings that train in minutes, and convert to a few MB, on this many rows and classes."""
    rows, classes = len(plan.rows), max(len(plan.classes), 1)
    forest: dict[str, Any] = {
        "n_estimators": 100,
        "min_samples_leaf": 2,
        "max_leaf_nodes": max(32, min(1000, 4000 // classes)),
        "max_features": 0.5 if plan.task == "regression" else "sqrt",
    }
    boosting: dict[str, Any] = {"n_estimators": max(10, min(100, 600 // classes)), "max_depth": 3, "learning_rate": 0.1}
    if rows > TRAINED_ROWS:
        share = max(0.01, round(TRAINED_ROWS / rows, 2))
        forest["max_samples"] = share
        boosting["subsample"] = share
    if len(plan.features) > FEW_FEATURES:
        boosting["max_features"] = "sqrt"
    linear: dict[str, dict[str, Any]] = (
        {"ridge": {"alpha": 1.0}} if plan.task == "regression" else {"logistic_regression": {"C": 1.0, "max_iter": 500}}
    )
    return {**linear, "random_forest": forest, "gradient_boosting": boosting}


def _example(plan: Plan) -> dict[str, Any]:
    """The row of the file that misses least."""
    rows = plan.rows.drop(plan.target.name)
    missing = rows.select(pl.sum_horizontal(pl.all().is_null())).to_series()
    return rows.row(int(missing.arg_min() or 0), named=True)


def _data(origin: Origin, plan: Plan) -> str:
    used = list(dict.fromkeys(feature.source.name for feature in plan.features))
    found = {column.name: column for column in plan.columns} | {plan.target.name: plan.target}
    columns = {
        name: Call(found[name].reader.function, (found[name].source,), found[name].reader.arguments)
        for name in [*used, plan.target.name]
    }
    parts = [feature for feature in plan.features if feature.part]
    names = sorted(
        {"Dialect", *(call.function for call in columns.values()), *(feature.part for feature in parts)},
        key=_import_order,
    )
    dialect = {key: getattr(plan.dialect, key) for key in ("encoding", "separator", "quoted", "skip")}
    changed = {key: value for key, value in dialect.items() if value != getattr(Dialect(), key)}
    left_out = [
        f"- {_line(column.source)}: {_line(column.note)}" for column in plan.columns if column.kind == "dropped"
    ]
    note = "\n\nLeft out are:\n\n" + "\n".join(left_out) + "\n" if left_out else ""
    made = "".join(f"        {part.part}({quote(part.source.name)}).alias({quote(part.name)}),\n" for part in parts)
    imported = f"from phaseflow.toolkit.delimited import {', '.join(names)}"
    if parts:
        transform = (
            '    """The parts of a date that a model can use, as numbers: a request holds them."""\n'
            f"    return raw.with_columns(\n{made}    )\n"
        )
    else:
        transform = '    """Nothing is made of the columns: they are the schema\'s."""\n    return raw\n'
    return f'''"""Reading {_line(origin.file)}, which is {origin.stored} in this folder.{note}"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from phaseflow.toolkit import delimited
{imported}

DIALECT = {render(Call("Dialect", by_name=changed), before=10)}
COLUMNS = {render(columns, before=10)}
"""How each column that is used reads, by its name in the schema."""


def sample(seed: int) -> bytes:  # noqa: ARG001  # nothing is drawn: the whole file is here
    """The file."""
    return (Path(__file__).parent / "{origin.stored}").read_bytes()


def read(content: bytes) -> pl.DataFrame:
    """The file's columns, typed; a cell that does not read as declared is missing."""
    return delimited.read(content, COLUMNS, DIALECT)


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
{transform}'''


def _import_order(name: str) -> tuple[bool, str]:
    return not name[0].isupper(), name


def _model(plan: Plan) -> str:
    algorithms = ESTIMATORS[plan.task]
    by_module: dict[str, list[str]] = {}
    for module, estimator in algorithms.values():
        by_module.setdefault(module, []).append(estimator)
    imports = "\n".join(
        f"from sklearn.{module} import {', '.join(sorted(names))}" for module, names in sorted(by_module.items())
    )
    table = "\n".join(f'    "{name}": {estimator},' for name, (_, estimator) in algorithms.items())
    fit = "fit_classifier" if plan.task == "classification" else "fit_regressor"
    linear = next(iter(algorithms))
    return f'''"""Three algorithms behind one preprocessing."""

from __future__ import annotations

import polars as pl
{imports}

from phaseflow import Candidate, Project
from phaseflow.toolkit.model import Trained
from phaseflow.toolkit.tabular import {fit}

ALGORITHMS = {{
{table}
}}


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of the schema's columns; only the linear model needs its numbers scaled."""
    estimator = ALGORITHMS[candidate.name](**candidate.params, random_state=project.seed)
    return {fit}(rows, project.schema, estimator, scale=candidate.name == "{linear}")
'''


def _world(plan: Plan, measured: Measured) -> str:
    moves = {name: amount for name in measured.importance if (amount := _spread(plan, name))}
    moves = dict(list(moves.items())[:3])
    lines = [f"        pl.col({quote(name)}) + {amount!r}," for name, amount in moves.items()]
    if not moves:  # No number can move: a category gets values that training never saw.
        name = next(iter(measured.importance))
        words = next(feature.kind for feature in plan.features if feature.name == name) == "category"
        lines = [f"        pl.col({quote(name)}) + {quote(' (new)')}," if words else f"        ~pl.col({quote(name)}),"]
    constants, rule, body = (
        _new_numbers(plan) if plan.task == "regression" else _new_classes(plan, moves) or _next_class(plan)
    )
    moved = "\n".join(lines)
    return f'''"""The world that `phaseflow traffic --drift` plays: other inputs, and another rule from inputs to truth."""

from __future__ import annotations

import numpy as np
import polars as pl

{constants}
def drift(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Rows [N] with the truth, changed: the most telling columns move, which live drift sees, and so does the rule.

    Here {rule}.
    Only the truth that comes back can teach that.
    """
    moved = rows.with_columns(
{moved}
    )
{body}'''


def _new_numbers(plan: Plan) -> tuple[str, str, str]:
    """Constants, a sentence and code: a larger truth."""
    target, spread = plan.target.name, float(f"{plan.rows[plan.target.name].std() or 1.0:.2g}")
    body = f"""    noise = pl.Series(random.normal(1.0, 0.02, rows.height))
    return moved.with_columns(((pl.col({quote(target)}) * 1.5 + {spread!r}) * noise).alias({quote(target)}))
"""
    return "", f"every {_line(plan.target.source, 40)} is half as large again and {spread:g} more", body


def _new_classes(plan: Plan, moves: Mapping[str, float]) -> tuple[str, str, str] | None:
    """Constants, a sentence and code: one column orders the classes; None where no column has values enough."""
    count, target = len(plan.classes), plan.target.name
    key = next((name for name in moves if plan.rows[name].n_unique() >= 2 * count), None)
    if key is None or count > 10:
        return None
    values = plan.rows[key].cast(pl.Float64).drop_nulls() + moves[key]
    quantiles = (values.quantile(place / count) for place in range(1, count))
    cuts = tuple(sorted({float(f"{cut:.6g}") for cut in quantiles if cut is not None}))
    constants = f"""CUTS = {render(cuts, before=7)}
CLASSES = {render(plan.classes[::-1][: len(cuts) + 1], before=10)}

"""
    body = f"""    place = np.searchsorted(CUTS, moved[{quote(key)}].fill_null(CUTS[0]).to_numpy())
    place = np.where(random.random(rows.height) < 0.05, random.integers(0, len(CLASSES), rows.height), place)
    return moved.with_columns(pl.Series({quote(target)}, np.array(CLASSES)[place]))
"""
    return constants, f"{key} alone decides: the classes stand between the cuts", body


def _next_class(plan: Plan) -> tuple[str, str, str]:
    """Constants, a sentence and code: each class becomes the next."""
    target = plan.target.name
    following = dict(zip(plan.classes, (*plan.classes[1:], plan.classes[0]), strict=True))
    body = f"""    changed = pl.Series(random.random(rows.height) < 0.9)
    truth = pl.col({quote(target)})
    return moved.with_columns(pl.when(changed).then(truth.replace(NEXT)).otherwise(truth).alias({quote(target)}))
"""
    return (
        f"NEXT = {render(following, before=7)}\n\n",
        "nine rows in ten are of another class than before: the next one",
        body,
    )


def _spread(plan: Plan, name: str) -> float | int:
    """Two and a half standard deviations of a number that can move that far, else 0."""
    feature = next(feature for feature in plan.features if feature.name == name)
    if feature.kind not in {"number", "integer"} or feature.part not in {"", "days"}:
        return 0
    spread = 2.5 * float(plan.rows[name].cast(pl.Float64).std() or 0)  # type: ignore[arg-type]  # a number's
    return max(1, round(spread)) if feature.kind == "integer" else float(f"{spread:.2g}")


def _tests(name: str) -> str:
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


def test_most_rows_can_be_learned_from(rows):
    assert len(rows) >= (1 - project.quarantine_share) * len(read(sample(project.seed)))


@pytest.mark.parametrize("candidate", project.candidates, ids=lambda candidate: candidate.name)
def test_each_candidate_answers_the_example(rows, candidate):
    trained = train(rows.head(2000), project, candidate)
    asked = {{name: pl.lit(value) for name, value in project.example.items()}}
    example = source.conform(rows.head(1).with_columns(**asked), project.schema)
    answer = graph.run(trained.onnx, graph.feed(example, project.schema))
    assert len(answer["label" if project.task == "classification" else "value"]) == 1
"""


def _readme(origin: Origin, plan: Plan, measured: Measured) -> str:
    kept = {feature.source.source for feature in plan.features}
    lines = [
        f"| {_line(column.source)} | {column.kind} | {column.missing} | {_line(column.note)} |"
        for column in (*plan.columns, plan.target)
        if column.source in kept or column.kind == "dropped" or column is plan.target
    ]
    notes = "".join(f"\n- {_line(note, 400)}" for note in plan.notes)
    return f"""# {origin.title}

This project {_what(plan)}. It was made from `{_line(origin.file)}` ({len(plan.rows):,} rows that can be learned from), and all
of it can be changed: `project.py` declares it, `data.py` reads the file, `model.py` trains, `world.py` is the changed world
that a rehearsal of drift plays.

## What was found

| column | kind | missing | note |
| --- | --- | --- | --- |
{chr(10).join(lines)}
{notes}
{"" if not notes else chr(10)}A date is sent as numbers: its day since 1970-01-01, month, weekday and hour, where they vary. As time passes, its day leaves
the days that the model knows: that is drift, and retraining on the newest rows is the answer to it.

## What was measured

| | {measured.metric} |
| --- | --- |
| an answer that looks at no column | {measured.baseline:g} |
| a quick model, cross-validated | {measured.quick:g} |
| the gate's bound | {measured.bound:g} |

## Run it

```
phaseflow run {origin.name}
phaseflow traffic {origin.name} --drift --feedback
```
"""


def _line(text: str, longest: int = 80) -> str:
    """`text` on one line that fits a table and a docstring."""
    line = " ".join(text.split()).replace("|", "/").replace("\\", "/").replace('"', "'")
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
