import datetime as dt
import gzip
import io
import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import datasets
from sklearn.metrics import r2_score

from cli.scaffold.tests.conftest import GENERATOR, csv, points
from phaseflow import discovery
from phaseflow.errors import DataError
from phaseflow.reference import PREDICTION, psi
from phaseflow.settings import ROOT
from phaseflow.toolkit import graph, source


def test_bike_sharing_of_2011_meets_2012(make, loop, real):
    """Train on one year and predict the next: the schema accepts it, drift is detected, and retraining helps."""
    whole = real("bike_sharing_daily.csv").decode().splitlines(keepends=True)
    first = "".join([whole[0], *(line for line in whole[1:] if ",2011-" in line)])
    second = "".join([whole[0], *(line for line in whole[1:] if ",2012-" in line)])
    project, _, plan, _ = make(first, "cnt")
    assert {column.source for column in plan.columns if column.kind == "dropped"} == {
        "instant",
        "yr",
        "casual",
        "registered",
    }
    train, holdout, models = loop(project)

    read = discovery.load(project.source.read)
    later = source.rows(source.Loaded(frame=read(second.encode()), origin="sample", sha256=""), project)
    assert len(later) == 366  # no row is rejected
    from pipelines.steps.bins import reference

    bins = reference(project, train, train["cnt"], {})
    shifts = {}
    for feature in bins:
        if feature.feature != PREDICTION:
            counts = np.bincount(
                [feature.index(value) for value in later[feature.feature]], minlength=len(feature.shares)
            )
            shifts[feature.feature] = psi(feature.shares, counts / counts.sum())
    assert shifts["dteday_days"] > 5 > project.drift.psi

    fit = discovery.load(project.train)
    training_rows = pl.concat([train.select(later.columns), later[::2]])
    test_rows = pl.concat([holdout.select(later.columns), later[1::2]])

    def quality(model):
        return r2_score(test_rows["cnt"], graph.run(model.onnx, graph.feed(test_rows, project.schema))["value"])

    old = max(quality(model) for model in models.values())
    new = max(quality(fit(training_rows, project, candidate)) for candidate in project.candidates)
    assert new > old + 0.1
    assert new > project.primary.threshold


@pytest.mark.parametrize(
    ("name", "target", "task", "rows"),
    [
        ("titanic.csv", "Survived", "classification", 891),
        ("ames_housing.csv", "SalePrice", "regression", 2930),
        ("bike_sharing_daily.csv", "cnt", "regression", 731),
    ],
)
def test_real_files_go_through_the_loop(make, loop, real, name, target, task, rows):
    project, _, plan, measurement = make(real(name), target)
    assert (project.task, len(plan.rows)) == (task, rows)
    assert measurement.beats_baseline
    loop(project)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes", "digits"])
def test_scikit_learns_own_sets_go_through_the_loop(make, loop, name):
    bunch = getattr(datasets, f"load_{name}")()
    frame = pl.DataFrame(bunch.data, schema=[str(column) for column in bunch.feature_names])
    label = (
        bunch.target if name == "diabetes" else [str(bunch.target_names[class_index]) for class_index in bunch.target]
    )
    content = io.BytesIO()
    frame.with_columns(pl.Series("target", label)).write_csv(content)
    project, _, plan, measurement = make(content.getvalue(), "target")
    assert project.task == ("regression" if name == "diabetes" else "classification")
    assert not any("LEAK" in note for note in plan.notes)
    assert measurement.beats_baseline
    loop(project)


def test_a_german_spreadsheet(make, loop):
    def german(value):
        return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))

    start = dt.date(2019, 1, 1)
    rows = []
    for index in range(200):
        size = GENERATOR.uniform(30, 200)
        sold = start + dt.timedelta(days=int(GENERATOR.integers(0, 900)))
        price = f"{german(4000 * size + GENERATOR.normal() * 9000)} €"
        rows.append(
            (
                german(size),
                GENERATOR.choice(["Gärten", "Hauptstraße"]),
                f"{sold:%d.%m.%Y}",
                price,
                "" if index % 9 else "k.A.",
            )
        )
    content = csv(["Größe (m²)", "Straße", "Verkauft am", "Preis", "Notiz"], rows, ";").encode("cp1252")
    project, folder, plan, _ = make(content, "preis")
    assert plan.dialect.encoding == "cp1252"
    assert project.schema.feature_names == (
        "grosse_m2",
        "strasse",
        "verkauft_am_days",
        "verkauft_am_month",
        "verkauft_am_weekday",
        "notiz",
    )
    assert project.schema.target.unit == "€"
    train, _, _ = loop(project)
    assert train["grosse_m2"].max() > 100
    assert (folder / "data.csv").read_bytes() == content


def test_nasty_names(make, loop):
    columns = [
        "id",
        "id",
        "",
        "class",
        "Time",
        '"a ""q"" b\nc"',
        "prediction",
        "score",
        "12",
        "_key",
        "label",
        "variable",
    ]
    columns += ["x" * 150, "π", "Возраст", '"say \\ ""\'"', "value"]
    rows = [
        [*GENERATOR.normal(size=3).round(3), GENERATOR.choice(["p", "q"]), *GENERATOR.integers(0, 9, 2)]
        + [
            *GENERATOR.normal(size=len(columns) - 7).round(3),
            GENERATOR.choice(['"u, v"', '"w\nz"', "o'k", '"é \\ ""–"']),
        ]
        for _ in range(90)
    ]
    loop(make(csv(columns, rows), "value")[0])
    loop(make(csv(columns, rows), "label")[0])


def test_the_generated_files_pass_the_linters(make, tmp_path):
    """The generated files pass ruff's rules and format, and strict mypy."""
    nasty = csv(
        ["when", "say", "x" * 130, "city", "t"],
        [
            (
                f"2020-01-{index % 28 + 1:02d}",
                GENERATOR.choice(['"a ""b"""', "it's", "–", "naïve"]),
                GENERATOR.normal(),
                index % 7,
                index % 3,
            )
            for index in range(120)
        ],
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "phaseflow").symlink_to(ROOT / "phaseflow")
    for content, target in [
        (csv(["x", "c", "y"], points()), "y"),
        (csv(["x", "c", "y"], points()), "c"),
        (nasty, "t"),
        (nasty, "say"),
    ]:
        _, folder, *_ = make(content, target)
        shutil.copytree(folder, tmp_path / "projects" / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    ruff = ROOT / ".venvs" / "dev" / "bin" / "ruff"
    if not ruff.exists():
        pytest.skip("the environment dev with ruff does not exist")
    for command in (["check"], ["format", "--diff"]):
        completed = subprocess.run(
            [ruff, *command, "projects"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert completed.returncode == 0, completed.stdout + completed.stderr
    mypy = [ruff.parent / "mypy", "--python-executable", sys.executable, "projects"]
    completed = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert not [
        line
        for line in completed.stdout.splitlines()
        if line.startswith("projects/") and "/tests/" not in line and "error" in line
    ], completed.stdout


def test_the_generated_tests_pass(make):
    _, folder, *_ = make(csv(["x", "c", "y"], points()), "y")
    completed = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder],
        cwd=ROOT,
        env={"PHASEFLOW_PROJECTS": str(folder.parent), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr


@pytest.mark.parametrize(
    ("columns", "row", "target", "left_out"),
    [
        (["x", "c", "y", "copy"], lambda x, c, y: (x, c, y, y), "y", {"copy"}),
        (["x", "c", "y", "cents"], lambda x, c, y: (x, c, y, round(y * 100)), "y", {"cents"}),
        (
            ["x", "c", "y", "a", "b"],
            lambda x, c, y: (x, c, y, round(x * x, 4), round(y - round(x * x, 4), 4)),
            "y",
            {"a", "b"},
        ),
        (
            ["x", "c", "y", "alive"],
            lambda x, c, y: (x, c, "ab"[int(y > 1)], {True: "yes", False: "no"}[y > 1]),
            "y",
            {"alive"},
        ),
        (["x", "c", "y", "code"], lambda x, c, y: (x, c, "ab"[int(y > 1)], 100 + (y > 1)), "y", {"code"}),
    ],
)
def test_columns_that_leak_the_target_are_dropped(make, columns, row, target, left_out):
    _, _, plan, _ = make(csv(columns, [row(*point) for point in points(200)]), target)
    dropped = {column.source for column in plan.columns if column.kind == "dropped"}
    assert dropped == left_out
    assert any(note.startswith("LEAK") for note in plan.notes)


def test_a_leaking_column_is_kept_if_no_other_remains(make, loop):
    project, _, plan, _ = make(csv(["x", "y"], [(index, 2 * index + 1) for index in range(60)]), "y")
    assert project.schema.feature_names == ("x",)
    assert "kept, because the other columns predict nothing" in plan.notes[0]
    loop(project)


def test_rows_without_a_target_and_rare_classes_are_quarantined(make, loop):
    rows = [
        (x, c, "" if index % 4 == 0 else "rare" if index == 5 else "ab"[int(y > 1)])
        for index, (x, c, y) in enumerate(points(200))
    ]
    project, _, plan, _ = make(csv(["x", "c", "y"], rows), "y")
    assert project.schema.target.allowed == ("a", "b")
    assert plan.notes == ("50 rows without y are quarantined", "Classes with fewer than 8 rows are quarantined: rare")
    train, holdout, _ = loop(project)
    assert len(train) + len(holdout) == 149


def test_the_task_can_be_chosen(make, loop):
    rows = [(x, c, int(np.clip(round(y), 0, 4))) for x, c, y in points(200)]
    assert make(csv(["x", "c", "stars"], rows), "stars")[0].task == "classification"
    project = make(csv(["x", "c", "stars"], rows), "stars", task="regression")[0]
    assert project.task == "regression"
    loop(project)


def test_features_accept_new_categories_and_wider_ranges(make):
    project, *_ = make(csv(["x", "c", "y"], points()), "y")
    assert not any(column.allowed or column.minimum is not None for column in project.schema.features)


def test_a_large_file_is_compressed_and_measured_on_a_sample(make, loop):
    count = 50_000
    numbers = GENERATOR.normal(size=(count, 6)).round(5)
    city = GENERATOR.zipf(1.6, count) % 3000
    content = csv(
        [*"abcdef", "city", "y"],
        [(*row, f"c{c}", round(row[0] + row[1] ** 2, 5)) for row, c in zip(numbers, city, strict=True)],
    )
    _, folder, plan, measurement = make(content, "y")
    assert gzip.decompress((folder / "data.csv.gz").read_bytes()) == content.encode()
    assert "city" in {feature.name for feature in plan.features}
    assert measurement.beats_baseline


def test_a_later_file_with_other_columns_is_an_error(make):
    project, *_ = make(csv(["x", "c", "y"], points()), "y")
    read = discovery.load(project.source.read)
    with pytest.raises(DataError, match="The file has no column 'x'; found: ex, c, y"):
        read(b"ex,c,y\n1,a,2\n")
    with pytest.raises(DataError, match="Column 'x': 2 of 3 cells do not read as declared, the first is 'one'"):
        read(b"x,c,y\none,a,2\ntwo,b,3\n3,b,3\n")


CELLS = {
    "number": st.floats(-1e6, 1e6).map(lambda value: f"{value:.6g}"),
    "comma": st.floats(-1e3, 1e3).map(lambda value: f'"{value:.2f}"'.replace(".", ",")),
    "integer": st.integers(-(10**9), 10**9).map(str),
    "flag": st.sampled_from(["yes", "no"]),
    "bit": st.sampled_from(["0", "1"]),
    "word": st.sampled_from(["red", "green", '"blue, dark"', "größer", "it's", '"a ""b"""']),
    "date": st.dates(dt.date(1990, 1, 1), dt.date(2030, 1, 1)).map(str),
    "money": st.integers(1, 10**6).map(lambda value: f'"${value:,}.50"'),
    "text": st.text(
        st.characters(codec="utf-8", exclude_characters='"\r\n,\0', exclude_categories=["Cs"]), max_size=30
    ).map(lambda text: f'"{text}"'),
    "constant": st.just("same"),
    "empty": st.sampled_from(["", "NA", "?"]),
}


@st.composite
def files(draw):
    """A CSV of random columns with random names, missing cells and a target."""
    count = draw(st.integers(60, 120))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    kinds = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=6))
    columns = {"x": [f"{value:.4f}" for value in random.normal(size=count)]}
    for index, kind in enumerate(kinds):
        pool = draw(st.lists(CELLS[kind], min_size=5, max_size=20))
        missing = draw(st.sampled_from([0, 0, 0.1, 0.6]))
        cells = [("" if random.random() < missing else pool[random.integers(0, len(pool))]) for _ in range(count)]
        name = draw(
            st.text(st.characters(codec="utf-8", exclude_characters='"\r\n,\0', exclude_categories=["Cs"]), max_size=12)
        )
        columns[f"{name} {index}"] = cells
    label = draw(st.sampled_from(["number", "class", "float", "noise"]))
    x = np.array([float(value) for value in columns["x"]])
    columns["label"] = {
        "number": [f"{value:.3f}" for value in 3 * x + random.normal(size=count)],
        "class": [["low", "mid", "high"][index] for index in np.digitize(x, [-0.4, 0.4])],
        "float": [str(float(value > 0)) for value in x],
        "noise": [str(value) for value in random.choice(["u", "v"], count)],
    }[label]
    return csv(['"' + name + '"' for name in columns], zip(*columns.values(), strict=True))


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(content=files())
def test_any_file_goes_through_the_loop(make, loop, content):
    project, *_ = make(content, "label")
    loop(project)
