"""Projects of texts and of images: made, trained, drifted, retrained, and refused where there is nothing to make."""

from __future__ import annotations

import base64
import importlib
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score

import projects
from phaseflow import registry
from phaseflow.errors import ContractError, DataError
from phaseflow.reference import psi
from phaseflow.scaffold.__main__ import another, main
from phaseflow.settings import ROOT
from phaseflow.toolkit import graph, images, source
from phaseflow.toolkit.scalars import scalars, vocabularies
from pipelines.steps import bins

RANDOM = np.random.default_rng(11)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory):
    """Make a project of another kind, and import it."""
    into = tmp_path_factory.mktemp("projects")
    projects.__path__.append(str(into))

    def scaffold(**options):
        name = f"other_{next(_numbers)}"
        made, folder = another(name, into, **options)
        importlib.invalidate_caches()
        return registry.get(name), folder, made

    yield scaffold
    projects.__path__.remove(str(into))


def letters(path: Path, count: int = 240) -> Path:
    """Letters to an office, in a layout of its own: semicolons, umlauts, a missing text, a rare class."""
    own = {
        "Beschwerde": ["kaputt", "falsch", "schlecht", "ärgerlich", "Rückgabe"],
        "Lob": ["danke", "prima", "schön", "gerne", "zufrieden"],
        "Frage": ["wann", "wo", "wie", "welche", "Öffnungszeit"],
    }
    common = [f"Wort{place}" for place in range(40)]
    lines = ["Nr;Brief;Art"]
    for number in range(count):
        kind = list(own)[number % 3]
        lines.append(f"{number};{' '.join([*RANDOM.choice(own[kind], 3), *RANDOM.choice(common, 7)])};{kind}")
    lines += ["900;;Lob", "901;Das ist selten;Spam"]
    path.write_text("\n".join(lines) + "\n", encoding="cp1252")
    return path


def digits(folder: Path, names: str = "0123") -> Path:
    """Scikit-learn's digits as files, a folder a class; and what lies about in folders."""
    bunch = load_digits()
    for number, (seen, truth) in enumerate(zip(bunch.images, bunch.target, strict=True)):
        if str(truth) in names:
            path = folder / f"digit {truth}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((seen * 15).astype(np.uint8)).save(path)
    (folder / f"digit {names[0]}" / "broken.png").write_bytes(b"no image")
    (folder / f"digit {names[0]}" / "notes.txt").write_text("no image either")
    (folder / "rare").mkdir()
    Image.new("L", (9, 9)).save(folder / "rare" / "one.png")
    return folder


def rows_of(project):
    loaded = source.Loaded(
        frame=registry.load(project.source.read)(registry.load(project.source.sample)(7)), origin="sample", sha256=""
    )
    return source.rows(loaded, project)


def turn(project) -> None:
    """Train, drift, see it, retrain: as the platform does."""
    rows = rows_of(project).sample(fraction=1.0, shuffle=True, seed=1)
    cut = rows.height * 3 // 4
    train, holdout = rows[:cut], rows[cut:]
    fit, world = registry.load(project.train), registry.load(project.drift.scenario)
    target = project.schema.target.name

    def score(model, judged):
        said = graph.run(model.onnx, graph.feed(judged, project.schema))["label"]
        return balanced_accuracy_score(judged[target].to_list(), said.tolist())

    later = world(holdout, np.random.default_rng(2))
    models = [fit(train, project, candidate) for candidate in project.candidates]
    assert max(score(model, holdout) for model in models) > project.primary.bound
    both = pl.concat([train, world(train, np.random.default_rng(1))])
    new = [fit(both, project, candidate) for candidate in project.candidates]
    assert max(score(model, later) for model in new) > max(score(model, later) for model in models) + 0.2
    words = vocabularies(project.schema, train)
    seen = scalars(project.schema, later, words)
    shifts = []
    for one in bins.reference(project, train, [], words)[: len(project.watched)]:
        counts = np.bincount([one.index(value) for value in seen[one.feature].to_list()], minlength=len(one.shares))
        shifts.append(psi(one.shares, list(counts / counts.sum())))
    assert max(shifts) > 2 * project.drift.psi


def test_a_project_of_texts(make, tmp_path: Path) -> None:
    project, folder, made = make(csv=letters(tmp_path / "briefe.csv"), text="brief", target="Art")
    assert project.task == "text"
    assert made.classes == ("Beschwerde", "Frage", "Lob")
    assert made.rows == 240
    assert made.notes == ("2 rows without a text, or of a class too rare, are left out",)
    assert made.quality.quick > 0.95 > made.quality.bound > made.quality.baseline
    assert {path.name for path in folder.iterdir()} == {
        *("__init__.py", "project.py", "data.py", "model.py", "world.py", "README.md", "tests", "data.csv")
    }
    turn(project)


def test_a_project_of_images(make, tmp_path: Path) -> None:
    project, _folder, made = make(folder=digits(tmp_path / "digits"), side=8)
    assert project.task == "image"
    assert project.schema["image"].shape == (8, 8, 1)
    assert made.classes == ("digit 0", "digit 1", "digit 2", "digit 3")
    assert made.notes == (
        "1 files can't be read and are left out: broken.png",
        "Classes with fewer than 8 images are left out: rare",
    )
    assert len(images.decode(base64.b64decode(project.example["image"]), (8, 8, 1))) == 64
    turn(project)


def test_coloured_images_stay_coloured(make, tmp_path: Path) -> None:
    for kind, colour in (("red", (220, 30, 30)), ("blue", (30, 30, 220))):
        (tmp_path / "colours" / kind).mkdir(parents=True)
        for number in range(20):
            noise = RANDOM.integers(-25, 25, (12, 10, 3))
            seen = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(seen).save(tmp_path / "colours" / kind / f"{number}.jpg")
    project, _, made = make(folder=tmp_path / "colours", side=16)
    assert project.schema["image"].shape == (16, 16, 3)
    assert made.quality.quick == 1


@pytest.fixture(scope="module")
def written(make, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of one project of each kind."""
    place = tmp_path_factory.mktemp("files")
    _, texts, _ = make(csv=letters(place / "briefe.csv"), text="Brief", target="Art")
    _, seen, _ = make(folder=digits(place / "digits"), side=8)
    return [texts, seen]


def test_what_is_made_is_clean(written: list[Path], tmp_path: Path) -> None:
    """ruff's rules and layout, as for the project's own files; mypy in strict mode."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "phaseflow").symlink_to(ROOT / "phaseflow")
    for folder in written:
        shutil.copytree(folder, tmp_path / "projects" / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    ruff = ROOT / ".venvs" / "dev" / "bin" / "ruff"
    if not ruff.exists():
        pytest.skip("the environment dev, which holds ruff, is not made")
    for command in (["check"], ["format", "--diff"]):
        done = subprocess.run([ruff, *command, "projects"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    mypy = [ruff.parent / "mypy", "--python-executable", sys.executable, "projects"]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True)
    wrong = [line for line in done.stdout.splitlines() if line.startswith("projects/") and "error" in line]
    assert not [line for line in wrong if "/tests/" not in line], done.stdout


def test_their_own_tests_pass(written: list[Path]) -> None:
    for folder in written:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder],
            cwd=ROOT,
            env={"PHASEFLOW_PROJECTS": str(folder.parent), "PATH": ""},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"text": "Brief"}, ContractError, "A project of texts needs a file and its classes. Give --csv FILE --text"),
        ({"csv": "briefe.csv", "text": "Briv", "target": "Art"}, DataError, "The file has no column 'Briv'"),
        (
            {"csv": "briefe.csv", "text": "Art", "target": "Art"},
            DataError,
            "is text and target at once. Name two columns",
        ),
        ({"csv": "briefe.csv", "text": "Art", "target": "Nr"}, DataError, "different values; allowed for classes: 100"),
        ({"folder": "nowhere"}, DataError, "is no folder. Give the folder that has a folder for each class"),
        ({"folder": "empty"}, DataError, "has 0 classes of 8 images or more, 0 images in all"),
        ({"folder": "empty", "side": 4}, DataError, "The side is 4; allowed: 8 to 128 pixels"),
    ],
)
def test_what_makes_no_project_says_why(tmp_path: Path, options, error, text: str) -> None:
    letters(tmp_path / "briefe.csv")
    (tmp_path / "empty").mkdir()
    given = {key: tmp_path / value if key in {"csv", "folder"} else value for key, value in options.items()}
    with pytest.raises(error) as caught:
        another("nothing", tmp_path / "into", **given)
    assert text in str(caught.value)
    assert not (tmp_path / "into" / "nothing").exists()


def test_the_command_tells_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = letters(tmp_path / "briefe.csv")
    into = str(tmp_path / "into")
    told = ["letters", "--csv", str(file), "--text", "Brief", "--target", "Art", "--into", into]
    assert main([*told, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["task"], answer["target"], answer["rows"]) == ("text", "Art", 240)
    assert main(told) == 2
    assert "is already there. Choose another name" in capsys.readouterr().err
    assert main(["nothing", "--into", into]) == 2
    assert "Give --csv FILE --target COLUMN, or --images FOLDER" in capsys.readouterr().err
