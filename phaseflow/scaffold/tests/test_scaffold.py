import datetime as dt
import gzip
import io
import json
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

from phaseflow import registry
from phaseflow.errors import DataError
from phaseflow.reference import PREDICTION, psi
from phaseflow.scaffold.__main__ import main
from phaseflow.settings import ROOT
from phaseflow.toolkit import graph, source

GENERATOR = np.random.default_rng(11)


def csv(columns, rows, separator=","):
    lines = [columns, *rows]
    return "\n".join(separator.join(str(cell) for cell in line) for line in lines) + "\n"


def points(count=80, extra=lambda x: x * 3):
    """A file with a number, a category and a truth that follows from both."""
    x, c = GENERATOR.normal(size=count).round(4), GENERATOR.choice(["a", "b"], count)
    noise = GENERATOR.normal(size=count).round(4)
    return [(a, b, round(extra(a) + 2 * (b == "b") + 0.1 * n, 4)) for a, b, n in zip(x, c, noise, strict=True)]


def test_bike_sharing_of_2011_meets_2012(make, loop, real):
    """Made and trained on one year, sent the next: the schema takes it, live drift shows, and retraining learns it."""
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

    read = registry.load(project.source.read)
    later = source.rows(source.Loaded(frame=read(second.encode()), origin="sample", sha256=""), project)
    assert len(later) == 366  # none is refused
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

    fit = registry.load(project.train)
    together = pl.concat([train.select(later.columns), later[::2]])
    judged = pl.concat([holdout.select(later.columns), later[1::2]])

    def quality(model):
        return r2_score(judged["cnt"], graph.run(model.onnx, graph.feed(judged, project.schema))["value"])

    old = max(quality(model) for model in models.values())
    new = max(quality(fit(together, project, candidate)) for candidate in project.candidates)
    assert new > old + 0.1
    assert new > project.primary.bound


@pytest.mark.parametrize(
    ("name", "target", "task", "rows"),
    [
        ("titanic.csv", "Survived", "classification", 891),
        ("ames_housing.csv", "SalePrice", "regression", 2930),
        ("bike_sharing_daily.csv", "cnt", "regression", 731),
    ],
)
def test_real_files_go_through_the_loop(make, loop, real, name, target, task, rows):
    project, _, plan, measured = make(real(name), target)
    assert (project.task, len(plan.rows)) == (task, rows)
    assert measured.learned
    loop(project)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes", "digits"])
def test_scikit_learns_own_sets_go_through_the_loop(make, loop, name):
    bunch = getattr(datasets, f"load_{name}")()
    frame = pl.DataFrame(bunch.data, schema=[str(column) for column in bunch.feature_names])
    truth = bunch.target if name == "diabetes" else [str(bunch.target_names[place]) for place in bunch.target]
    content = io.BytesIO()
    frame.with_columns(pl.Series("target", truth)).write_csv(content)
    project, _, plan, measured = make(content.getvalue(), "target")
    assert project.task == ("regression" if name == "diabetes" else "classification")
    assert not any("LEAK" in note for note in plan.notes)
    assert measured.learned
    loop(project)


def test_a_german_spreadsheet(make, loop):
    def german(value):
        return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))

    start = dt.date(2019, 1, 1)
    rows = []
    for place in range(200):
        size = GENERATOR.uniform(30, 200)
        sold = start + dt.timedelta(days=int(GENERATOR.integers(0, 900)))
        price = f"{german(4000 * size + GENERATOR.normal() * 9000)} €"
        rows.append(
            (
                german(size),
                GENERATOR.choice(["Gärten", "Hauptstraße"]),
                f"{sold:%d.%m.%Y}",
                price,
                "" if place % 9 else "k.A.",
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


def test_what_is_made_is_clean(make, tmp_path):
    """ruff's rules and layout, as for the project's own files; mypy in strict mode."""
    nasty = csv(
        ["when", "say", "x" * 130, "city", "t"],
        [
            (
                f"2020-01-{place % 28 + 1:02d}",
                GENERATOR.choice(['"a ""b"""', "it's", "–", "naïve"]),
                GENERATOR.normal(),
                place % 7,
                place % 3,
            )
            for place in range(120)
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
        pytest.skip("the environment dev, which holds ruff, is not made")
    for command in (["check"], ["format", "--diff"]):
        done = subprocess.run([ruff, *command, "projects"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    mypy = [ruff.parent / "mypy", "--python-executable", sys.executable, "projects"]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert not [
        line
        for line in done.stdout.splitlines()
        if line.startswith("projects/") and "/tests/" not in line and "error" in line
    ], done.stdout


def test_its_own_tests_pass(make):
    _, folder, *_ = make(csv(["x", "c", "y"], points()), "y")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder],
        cwd=ROOT,
        env={"PHASEFLOW_PROJECTS": str(folder.parent), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


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
def test_columns_that_give_the_target_away_are_left_out(make, columns, row, target, left_out):
    _, _, plan, _ = make(csv(columns, [row(*point) for point in points(200)]), target)
    gone = {column.source for column in plan.columns if column.kind == "dropped"}
    assert gone == left_out
    assert any(note.startswith("LEAK") for note in plan.notes)


def test_a_formula_is_learned_where_nothing_else_is_there(make, loop):
    project, _, plan, _ = make(csv(["x", "y"], [(place, 2 * place + 1) for place in range(60)]), "y")
    assert project.schema.feature_names == ("x",)
    assert "kept, as the rest tells nothing" in plan.notes[0]
    loop(project)


def test_rows_without_a_target_and_rare_classes_are_quarantined(make, loop):
    rows = [
        (x, c, "" if place % 4 == 0 else "rare" if place == 5 else "ab"[int(y > 1)])
        for place, (x, c, y) in enumerate(points(200))
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


def test_new_categories_and_wider_numbers_are_taken(make):
    project, *_ = make(csv(["x", "c", "y"], points()), "y")
    assert not any(column.allowed or column.minimum is not None for column in project.schema.features)


def test_a_large_file_is_kept_packed_and_measured_on_a_sample(make, loop):
    count = 50_000
    numbers = GENERATOR.normal(size=(count, 6)).round(5)
    city = GENERATOR.zipf(1.6, count) % 3000
    content = csv(
        [*"abcdef", "city", "y"],
        [(*row, f"c{c}", round(row[0] + row[1] ** 2, 5)) for row, c in zip(numbers, city, strict=True)],
    )
    _, folder, plan, measured = make(content, "y")
    assert gzip.decompress((folder / "data.csv.gz").read_bytes()) == content.encode()
    assert "city" in {feature.name for feature in plan.features}
    assert measured.learned


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    told = capsys.readouterr()
    return code, told.out, told.err.strip().splitlines()[-1:] or [""]


def test_the_command_says_what_it_found(tmp_path, capsys):
    (tmp_path / "f.csv").write_text(csv(["x", "c", "y"], points()))
    code, out, _ = run(capsys, "mine", "--csv", tmp_path / "f.csv", "--target", "y", "--into", tmp_path / "projects")
    assert code == 0
    assert "regression of y; 80 rows, 2 features" in out
    assert "phaseflow run mine" in out
    code, out, _ = run(
        capsys, "two", "--csv", tmp_path / "f.csv", "--target", "y", "--into", tmp_path / "projects", "--json"
    )
    told = json.loads(out)
    assert (code, told["project"], told["task"], told["metric"]) == (0, "two", "regression", "r2")
    assert [column["kind"] for column in told["columns"]] == ["number", "category"]
    assert sorted(path.name for path in (tmp_path / "projects").iterdir()) == ["mine", "two"]


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"", [], "The file is empty. Give a CSV with a header and rows."),
        (b"\n \n", [], "The file is empty. Give a CSV with a header and rows."),
        (b"PK\x03\x04xxxx", [], "The file is an Excel workbook or a zip. Save it as CSV."),
        (b"x,y\n\0\0\0", [], "The file holds binary data. Save it as CSV in UTF-8."),
        (
            b"x,yield\n1,2\n",
            [],
            "The file has no column 'y'; found: x, yield. Give one of them, or add a header line if the file has none.",
        ),
        (b"x,yy\n1,2\n", [], "The file has no column 'y'; found: x, yy. Did you mean \"yy\"?"),
        (b"x,y\n1,2\n3,4\n", [], "2 rows have a value in 'y'; allowed: 30 or more. Collect more rows."),
        (b"x,y\n" + b"1,2\n" * 50, [], "The target 'y' is always '2'. Choose a column that has two values or more."),
        (
            b"x,y\n" + b"1,a\n" * 50 + b"2,b\n" * 3,
            [],
            "The target 'y' has 1 classes of 8 rows or more; allowed: two or more. Collect more rows of each class, or merge classes.",
        ),
        (
            b"x,y\n" + b"".join(b"%d,t%d\n" % (n, n) for n in range(200)),
            [],
            "The target 'y' has 200 different values; allowed for classes: 100. Group them, choose another column, or use --task regression if they are numbers.",
        ),
        (
            b"x,y\n" + b"1,a\n2,b\n" * 50,
            ["--task", "regression"],
            "The target 'y' holds text such as 'a', which regression can't learn. Use --task classification.",
        ),
        (
            b"x,y\n" + b"1,a\n1,b\n" * 50,
            [],
            "No column is left to learn from (x: always '1'). Give a file with columns that vary and repeat.",
        ),
        (
            b"x,y\n" + b"1,3\n2,1\n" * 50,
            [],
            "The columns make 2 different rows; allowed: 8 or more. Give columns that differ between rows.",
        ),
        (
            b"x,y\n1,2\n3,4,5,6\n",
            [],
            "Row 2 has 4 cells, and the header has 2. Quote the cells that hold the separator.",
        ),
    ],
)
def test_a_file_that_makes_no_project(tmp_path, capsys, content, arguments, message):
    (tmp_path / "f.csv").write_bytes(content)
    code, _, (last,) = run(
        capsys, "mine", "--csv", tmp_path / "f.csv", "--target", "y", "--into", tmp_path / "into", *arguments
    )
    assert (code, last) == (2, message)
    assert not (tmp_path / "into").exists()


def test_wrong_names_files_and_folders(tmp_path, capsys):
    file = tmp_path / "f.csv"
    file.write_text(csv(["x", "c", "y"], points()))
    (tmp_path / "taken").mkdir()
    for name, csv_file, message in [
        (
            "My Project",
            file,
            "The project's name is 'My Project'; allowed: lower-case letters, digits and _, a letter first, at most 48. Rename it, for example \"my_project\".",
        ),
        ("class", file, "The project's name is 'class', a word of Python's. Choose another, for example \"my_class\"."),
        (
            "taken",
            file,
            f"{tmp_path}/taken is already there. Choose another name, or remove it with `rm -r {tmp_path}/taken`",
        ),
        (
            "mine",
            tmp_path / "none.csv",
            f"{tmp_path}/none.csv can't be read: No such file or directory. Give the path of a CSV file.",
        ),
        ("mine", tmp_path, f"{tmp_path} can't be read: Is a directory. Give the path of a CSV file."),
    ]:
        assert run(capsys, name, "--csv", csv_file, "--target", "y", "--into", tmp_path)[::2] == (2, [message])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.csv", "taken"]
    assert not list((tmp_path / "taken").iterdir())


def test_a_later_file_that_reads_otherwise_is_refused(make):
    project, *_ = make(csv(["x", "c", "y"], points()), "y")
    read = registry.load(project.source.read)
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
    """A CSV of random columns under random names, some cells missing, and its target."""
    count = draw(st.integers(60, 120))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    kinds = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=6))
    columns = {"x": [f"{value:.4f}" for value in random.normal(size=count)]}
    for place, kind in enumerate(kinds):
        pool = draw(st.lists(CELLS[kind], min_size=5, max_size=20))
        missing = draw(st.sampled_from([0, 0, 0.1, 0.6]))
        cells = [("" if random.random() < missing else pool[random.integers(0, len(pool))]) for _ in range(count)]
        name = draw(
            st.text(st.characters(codec="utf-8", exclude_characters='"\r\n,\0', exclude_categories=["Cs"]), max_size=12)
        )
        columns[f"{name} {place}"] = cells
    truth = draw(st.sampled_from(["number", "class", "float", "noise"]))
    x = np.array([float(value) for value in columns["x"]])
    columns["truth"] = {
        "number": [f"{value:.3f}" for value in 3 * x + random.normal(size=count)],
        "class": [["low", "mid", "high"][place] for place in np.digitize(x, [-0.4, 0.4])],
        "float": [str(float(value > 0)) for value in x],
        "noise": [str(value) for value in random.choice(["u", "v"], count)],
    }[truth]
    return csv(['"' + name + '"' for name in columns], zip(*columns.values(), strict=True))


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(content=files())
def test_any_file_goes_through_the_loop(make, loop, content):
    project, *_ = make(content, "truth")
    loop(project)
