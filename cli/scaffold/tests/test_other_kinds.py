"""Tests of generated projects of texts and images: generation, training, drift, retraining and errors."""

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

from cli.scaffold.__main__ import create_from_texts_or_images, main
from phaseflow import discovery
from phaseflow.errors import ContractError, DataError, from_output
from phaseflow.reference import psi
from phaseflow.settings import ROOT
from phaseflow.testing import more_projects
from phaseflow.toolkit import graph, images, source
from phaseflow.toolkit.scalars import scalars, vocabularies
from pipelines.steps import bins

RANDOM = np.random.default_rng(11)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory):
    """Generate a project of texts or images, and import it."""
    into = tmp_path_factory.mktemp("projects")

    def scaffold(**options):
        name = f"other_{next(_numbers)}"
        new_project, folder = create_from_texts_or_images(name, into, **options)
        importlib.invalidate_caches()
        return discovery.get(name), folder, new_project

    with more_projects(into):
        yield scaffold


def letters(path: Path, count: int = 240) -> Path:
    """Write a CSV of letters with semicolons, umlauts, a missing text and a rare class."""
    words_by_class = {
        "Beschwerde": ["kaputt", "falsch", "schlecht", "ärgerlich", "Rückgabe"],
        "Lob": ["danke", "prima", "schön", "gerne", "zufrieden"],
        "Frage": ["wann", "wo", "wie", "welche", "Öffnungszeit"],
    }
    common = [f"Wort{number}" for number in range(40)]
    lines = ["Nr;Brief;Art"]
    for number in range(count):
        kind = list(words_by_class)[number % 3]
        lines.append(
            f"{number};{' '.join([*RANDOM.choice(words_by_class[kind], 3), *RANDOM.choice(common, 7)])};{kind}"
        )
    lines += ["900;;Lob", "901;Das ist selten;Spam"]
    path.write_text("\n".join(lines) + "\n", encoding="cp1252")
    return path


def digits(folder: Path, names: str = "0123") -> Path:
    """Write scikit-learn's digits as files, one folder per class, with some unrelated files."""
    bunch = load_digits()
    for number, (pixels, label) in enumerate(zip(bunch.images, bunch.target, strict=True)):
        if str(label) in names:
            path = folder / f"digit {label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels * 15).astype(np.uint8)).save(path)
    (folder / f"digit {names[0]}" / "broken.png").write_bytes(b"no image")
    (folder / f"digit {names[0]}" / "notes.txt").write_text("no image either")
    (folder / "rare").mkdir()
    Image.new("L", (9, 9)).save(folder / "rare" / "one.png")
    return folder


def rows_of(project):
    loaded = source.Loaded(
        frame=discovery.load(project.source.read)(discovery.load(project.source.sample)(7)), origin="sample", sha256=""
    )
    return source.rows(loaded, project)


def run_drift_cycle(project) -> None:
    """Train, simulate drift, detect it and retrain, like the platform."""
    rows = rows_of(project).sample(fraction=1.0, shuffle=True, seed=1)
    cut = rows.height * 3 // 4
    train, holdout = rows[:cut], rows[cut:]
    fit, simulate_drift = discovery.load(project.train), discovery.load(project.drift.scenario)
    target = project.schema.target.name

    def score(model, rows_to_score):
        outputs = graph.run(model.onnx, graph.feed(rows_to_score, project.schema))["label"]
        return balanced_accuracy_score(rows_to_score[target].to_list(), outputs.tolist())

    later = simulate_drift(holdout, np.random.default_rng(2))
    models = [fit(train, project, candidate) for candidate in project.candidates]
    assert max(score(model, holdout) for model in models) > project.primary.threshold
    mixed = pl.concat([train, simulate_drift(train, np.random.default_rng(1))])
    retrained = [fit(mixed, project, candidate) for candidate in project.candidates]
    assert max(score(model, later) for model in retrained) > max(score(model, later) for model in models) + 0.2
    vocabulary = vocabularies(project.schema, train)
    drifted_scalars = scalars(project.schema, later, vocabulary)
    shifts = []
    for feature_reference in bins.reference(project, train, [], vocabulary)[: len(project.monitored_features)]:
        counts = np.bincount(
            [feature_reference.index(value) for value in drifted_scalars[feature_reference.feature].to_list()],
            minlength=len(feature_reference.shares),
        )
        shifts.append(psi(feature_reference.shares, list(counts / counts.sum())))
    assert max(shifts) > 2 * project.drift.psi


def test_a_project_of_texts(make, tmp_path: Path) -> None:
    project, folder, new_project = make(csv=letters(tmp_path / "briefe.csv"), text="brief", target="Art")
    assert project.task == "classification"
    assert new_project.classes == ("Beschwerde", "Frage", "Lob")
    assert new_project.rows == 240
    assert new_project.notes == ("2 rows without a text or with a rare class are left out",)
    assert new_project.quality.quick > 0.95 > new_project.quality.threshold > new_project.quality.baseline
    assert {path.name for path in folder.iterdir() if path.name != "__pycache__"} == {
        *("__init__.py", "project.py", "data.py", "model.py", "drift.py", "README.md", "tests", "data.csv")
    }
    run_drift_cycle(project)


def test_a_project_of_images(make, tmp_path: Path) -> None:
    project, _folder, new_project = make(folder=digits(tmp_path / "digits"), side=8)
    assert project.task == "classification"
    assert project.schema["image"].shape == (8, 8, 1)
    assert new_project.classes == ("digit 0", "digit 1", "digit 2", "digit 3")
    assert new_project.notes == (
        "1 files can't be read and are left out: broken.png",
        "Classes with fewer than 8 images are left out: rare",
    )
    assert len(images.decode(base64.b64decode(project.example["image"]), (8, 8, 1))) == 64
    run_drift_cycle(project)


def test_coloured_images_stay_coloured(make, tmp_path: Path) -> None:
    for kind, colour in (("red", (220, 30, 30)), ("blue", (30, 30, 220))):
        (tmp_path / "colours" / kind).mkdir(parents=True)
        for number in range(20):
            noise = RANDOM.integers(-25, 25, (12, 10, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "colours" / kind / f"{number}.jpg")
    project, _, new_project = make(folder=tmp_path / "colours", side=16)
    assert project.schema["image"].shape == (16, 16, 3)
    assert new_project.quality.quick == 1


@pytest.fixture(scope="module")
def project_folders(make, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of a generated text project and a generated image project."""
    folder = tmp_path_factory.mktemp("files")
    _, text_project, _ = make(csv=letters(folder / "briefe.csv"), text="Brief", target="Art")
    _, image_project, _ = make(folder=digits(folder / "digits"), side=8)
    return [text_project, image_project]


def test_the_generated_files_pass_the_linters(project_folders: list[Path], tmp_path: Path) -> None:
    """The generated files pass ruff's rules and format, and strict mypy."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "phaseflow").symlink_to(ROOT / "phaseflow")
    for folder in project_folders:
        shutil.copytree(folder, tmp_path / "projects" / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    ruff = ROOT / ".venvs" / "dev" / "bin" / "ruff"
    if not ruff.exists():
        pytest.skip("the environment dev with ruff does not exist")
    for command in (["check"], ["format", "--diff"]):
        completed = subprocess.run([ruff, *command, "projects"], cwd=tmp_path, capture_output=True, text=True)
        assert completed.returncode == 0, completed.stdout + completed.stderr
    mypy = [ruff.parent / "mypy", "--python-executable", sys.executable, "projects"]
    completed = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True)
    wrong = [line for line in completed.stdout.splitlines() if line.startswith("projects/") and "error" in line]
    assert not [line for line in wrong if "/tests/" not in line], completed.stdout


def test_the_generated_tests_pass(project_folders: list[Path]) -> None:
    for folder in project_folders:
        completed = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder],
            cwd=ROOT,
            env={"PHASEFLOW_PROJECTS": str(folder.parent), "PATH": ""},
            capture_output=True,
            text=True,
        )
        assert completed.returncode == 0, completed.stdout + completed.stderr


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"text": "Brief"},
            ContractError,
            "A project of texts needs a CSV file and a target column. Give --csv FILE --text",
        ),
        ({"csv": "briefe.csv", "text": "Briv", "target": "Art"}, DataError, "The file has no column 'Briv'"),
        (
            {"csv": "briefe.csv", "text": "Art", "target": "Art"},
            DataError,
            "can't be both text and target. Name two columns",
        ),
        ({"csv": "briefe.csv", "text": "Art", "target": "Nr"}, DataError, "different values; allowed for classes: 100"),
        ({"folder": "nowhere"}, DataError, "is not a folder. Give a folder with one subfolder per class"),
        ({"folder": "empty"}, DataError, "has 0 classes of 8 images or more, 0 images in all"),
        ({"folder": "empty", "side": 4}, DataError, "The side is 4; allowed: 8 to 128 pixels"),
    ],
)
def test_an_unsuitable_input_is_an_error(tmp_path: Path, options, error, text: str) -> None:
    letters(tmp_path / "briefe.csv")
    (tmp_path / "empty").mkdir()
    arguments = {key: tmp_path / value if key in {"csv", "folder"} else value for key, value in options.items()}
    with pytest.raises(error) as caught:
        create_from_texts_or_images("nothing", tmp_path / "into", **arguments)
    assert text in str(caught.value)
    assert not (tmp_path / "into" / "nothing").exists()


def test_the_command_prints_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = letters(tmp_path / "briefe.csv")
    into = str(tmp_path / "into")
    arguments = ["letters", "--csv", str(file), "--text", "Brief", "--target", "Art", "--into", into]
    assert main([*arguments, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["task"], summary["target"], summary["rows"]) == ("classification", "Art", 240)
    assert main(arguments) == 2
    assert "already exists. Choose another name" in str(from_output(capsys.readouterr().err))
    assert main(["nothing", "--into", into]) == 2
    assert "Give --csv FILE --target COLUMN, or --images FOLDER" in str(from_output(capsys.readouterr().err))
