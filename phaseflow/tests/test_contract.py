"""A wrong declaration fails where it stands, and says how to mend it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from phaseflow import Candidate, Column, ContractError, Drift, File, Gate, Metric, Project, Schema, Slice, Source
from phaseflow.contract import METRICS

SOURCE = Source(url="https://example.org/a.csv", mirror="a.csv", sample="toy.data:sample")


def declare(**changes: Any) -> Project:
    """A small right declaration, with changes."""
    values: dict[str, Any] = {
        "name": "toy",
        "title": "A toy",
        "phase": 2,
        "task": "classification",
        "source": SOURCE,
        "schema": Schema(
            features=(Column(name="age", kind="number", nullable=True), Column(name="sex", kind="category")),
            target=Column(name="alive", kind="category", allowed=("0", "1")),
        ),
        "transform": "toy.data:transform",
        "train": "toy.model:train",
        "candidates": (Candidate(name="tree"),),
        "metrics": (Metric(name="roc_auc", bound=0.7),),
        "example": {"age": 3.0, "sex": "male"},
    }
    return Project(**(values | changes))


def test_a_right_declaration_round_trips_to_json() -> None:
    project = declare()
    assert json.loads(json.dumps(project.to_dict()))["schema"]["features"][0]["name"] == "age"
    assert project.primary.direction == "higher"
    assert project.watched == ("age", "sex")


def test_a_bound_may_differ_by_the_origin_of_the_data() -> None:
    metric = Metric(name="roc_auc", bound={"sample": 0.9, "public": 0.8})
    assert [metric.limit(source) for source in ("sample", "package", "public", "cache", "mirror")] == [
        0.9,
        None,
        0.8,
        0.8,
        0.8,
    ]
    assert metric.bounds == ">= 0.9 (sample), >= 0.8 (public)"
    assert Metric(name="mae", bound=3).bounds == "<= 3"
    assert Metric(name="mae").bounds == ""
    assert json.loads(json.dumps(declare(metrics=(metric,)).to_dict()))["metrics"][0]["bound"] == dict(
        metric.bound or {}
    )


@pytest.mark.parametrize(
    ("bound", "error"),
    [
        ({}, r"Metric 'roc_auc': bound is empty; allowed: at least one\. Give Metric 'roc_auc': bound a value"),
        (
            {"mirror": 0.9},
            r"Metric 'roc_auc': an origin of bound is 'mirror'; allowed: package, public, sample\. Set .* to one of them",
        ),
        (
            {"sample": "much"},
            r"Metric 'roc_auc': bound of sample is 'much'; allowed: -1e\+12 to 1e\+12\. Set .* number",
        ),
        (
            True,
            r"Metric 'roc_auc': bound is True; allowed: -1e\+12 to 1e\+12\. Set Metric 'roc_auc': bound to a number",
        ),
    ],
)
def test_a_wrong_bound_says_how_to_mend_it(bound: Any, error: str) -> None:
    with pytest.raises(ContractError, match=error):
        Metric(name="roc_auc", bound=bound)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"margin": -0.1}, r"Gate\.margin is -0\.1; allowed: 0 to 1e\+12\. Set Gate\.margin to a number in that range"),
        ({"cheaper": 1.0}, r"Gate\.cheaper is 1\.0; allowed: 0\.01 to 0\.99\. Set Gate\.cheaper"),
        ({"calibration": 2.0}, r"Gate\.calibration is 2\.0; allowed: 0 to 1\. Set Gate\.calibration"),
        ({"trusted_loss": -1.0}, r"Gate\.trusted_loss is -1\.0; allowed: 0 to"),
        ({"folds": 0}, r"Gate\.folds is 0; allowed: 1 to 20 folds\. Set Gate\.folds"),
    ],
)
def test_a_wrong_gate_says_how_to_mend_it(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(ContractError, match=error):
        Gate(**changes)


PHOTO = Column(name="photo", kind="image", shape=(2, 2, 1))


def test_what_is_no_scalar_is_watched_by_its_figures() -> None:
    schema = Schema(features=(PHOTO, Column(name="age", kind="number")), target=Column(name="alive", kind="category"))
    changes = {"schema": schema, "example": {"photo": "x", "age": 1}}
    assert declare(**changes).watched == ("photo.brightness", "photo.contrast", "photo.sharpness", "age")
    assert declare(**changes, drift=Drift(features=("photo",))).watched == PHOTO.figures
    assert declare(**changes, drift=Drift(features=("age", "photo.contrast"))).watched == ("age", "photo.contrast")
    with pytest.raises(ContractError, match=r"Drift.features is 'photo.contrst'; .*Did you mean \"photo.contrast\"\?"):
        declare(**changes, drift=Drift(features=("photo.contrst",)))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"task": "clasification"},
            "Project.task is 'clasification'; allowed: classification, clustering, control, detection, generation, "
            'image, ranking, regression, segmentation, text. Did you mean "classification"?',
        ),
        (
            {"name": "House Prices"},
            "Project.name is 'House Prices'; allowed: lower-case letters, digits and _, a letter first, at most 48. "
            'Rename it, for example "house_prices".',
        ),
        ({"title": ""}, "Project.title is empty; allowed: at least one. Give Project.title a value."),
        ({"phase": 7}, "Project.phase is 7; allowed: 1 to 6. Set Project.phase to a number in that range."),
        ({"phase": True}, "Project.phase is True; allowed: 1 to 6. Set Project.phase to a number in that range."),
        (
            {"train": "train"},
            "Project.train is 'train'; allowed: 'project.module:function'. Set Project.train to the path of a function, "
            "for example 'titanic.model:train'.",
        ),
        (
            {"candidates": (Candidate(name="a"), Candidate(name="a"))},
            "Project.candidates holds 'a' more than once; allowed: each once. Remove the repetition.",
        ),
        ({"metrics": ()}, "Project.metrics is empty; allowed: at least one. Give Project.metrics a value."),
        (
            {"drift": Drift(features=("agee",))},
            "Drift.features is 'agee'; allowed: age, sex. Did you mean \"age\"?",
        ),
        (
            {"example": {"age": 1.0}},
            "Project.example lacks sex. Add a value for each column that is not nullable.",
        ),
        (
            {"example": {"sex": "male", "agge": 1.0}},
            "Project.example is 'agge'; allowed: age, sex. Did you mean \"age\"?",
        ),
        ({"family": "torhc"}, "Project.family is 'torhc'; allowed: language, tabular, torch. Did you mean \"torch\"?"),
        (
            {"task": "clustering"},
            "Schema.target is 'alive' for the task 'clustering', which learns no truth. Remove the target.",
        ),
        (
            {"schema": Schema(features=(Column(name="age", kind="number"),)), "example": {"age": 1}},
            "Schema.target is None for the task 'classification', which learns one. Give the schema a target, or correct "
            "the task.",
        ),
        (
            {"group": "alive"},
            "Project.group is 'alive', the target, which no row has before its truth is known. Name a feature, or a column of "
            "the source.",
        ),
        (
            {"group": "age"},
            "Project.group: kind of 'age' is 'number'; allowed: category, date, id, integer, text. Set Project.group: kind of 'age' "
            "to one of them.",
        ),
        (
            {"trusted_clients": ("shop", "shop")},
            "Project.trusted_clients holds 'shop' more than once; allowed: each once. Remove the repetition.",
        ),
        (
            {
                "group": "name",
                "schema": Schema(
                    features=(
                        Column(name="age", kind="number"),
                        Column(name="name", kind="text", nullable=True, personal=True),
                    ),
                    target=Column(name="alive", kind="category", allowed=("0", "1")),
                ),
                "example": {"age": 1.0},
            },
            "Project.group is 'name', a personal column that the log leaves out. Give that column kind=\"id\", whose values are "
            "hashed, or name another one.",
        ),
        (
            {"trusted_clients": ("",)},
            "Project.trusted_clients holds ''; allowed: names of tokens, without blanks. Give the client a line `name token` in the "
            "secret feedback_tokens, and name it here.",
        ),
        (
            {"history": "age"},
            "Project.history is 'age'; allowed: a feature of kind id (there is none). Name one, give that column "
            'kind="id", or remove history.',
        ),
        (
            {"feedback_share": 1.5},
            "Project.feedback_share is 1.5; allowed: 0 to 1. Set Project.feedback_share to a number in that range.",
        ),
        (
            {"feedback_share_per_client": -0.1},
            "Project.feedback_share_per_client is -0.1; allowed: 0 to 1. Set Project.feedback_share_per_client to a number in "
            "that range.",
        ),
        (
            {"feedback_half_life_hours": 0},
            "Project.feedback_half_life_hours is 0; allowed: 0.01 to 100000 hours. Set Project.feedback_half_life_hours to a number in "
            "that range.",
        ),
        (
            {"holdout_share": 0.9},
            "Project.holdout_share is 0.9; allowed: 0.05 to 0.5. Set Project.holdout_share to a number in that range.",
        ),
    ],
)
def test_a_wrong_project_names_field_value_and_fix(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ContractError) as caught:
        declare(**changes)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: Column(name="age", kind="float"),
            "Column 'age': kind is 'float'; allowed: action, boolean, boxes, category, date, id, image, integer, mask, "
            "number, ranking, text, vector. Set Column 'age': kind to one of them.",
        ),
        (
            lambda: Schema(features=(Column(name="score", kind="number"),)),
            "Column.name is 'score', a name of the prediction log or of a model's output. Rename it in `transform`, for example \"score_\".",
        ),
        (
            lambda: Column(name="age", kind="number", minimum=3, maximum=1),
            "Column 'age': minimum is 3, above maximum 1. Exchange the two.",
        ),
        (
            lambda: Column(name="sex", kind="category", minimum=0),
            "Column 'sex': a range is given for kind 'category'; allowed: number, integer, action. Remove the range.",
        ),
        (
            lambda: Column(name="n", kind="integer", allowed=("1",)),
            "Column 'n': allowed is given for kind 'integer'; allowed: category, boxes, mask. Remove it, or set "
            'kind="category".',
        ),
        (
            lambda: Column(name="photo", kind="image"),
            "Column 'photo': shape is empty for kind 'image'. Give its shape, e.g. (28, 28, 1).",
        ),
        (
            lambda: Column(name="photo", kind="image", shape=(28, 28, 4)),
            "Column 'photo': shape is (28, 28, 4); allowed: (height, width, 1) for grey, (height, width, 3) for colours. "
            "Give its shape, e.g. (28, 28, 1).",
        ),
        (
            lambda: Column(name="photo", kind="image", shape=(28, 28, 1), nullable=True),
            "Column 'photo': an image is nullable, and no model answers without it. Remove nullable.",
        ),
        (
            lambda: Source(url="", mirror="a", sample="a.b:c", more=(File(url="", mirror="b"),)),
            "Source.read is empty, and the source has several files. Set Source.read to a function of all their contents.",
        ),
        (
            lambda: Source(url="", mirror="a", sample="a.b:c", read="a.b:d", more=(File(url="", mirror="a"),)),
            "Source.mirror holds 'a' more than once; allowed: each once. Remove the repetition.",
        ),
        (
            lambda: Metric(name="rocauc"),
            "Metric.name (without a direction) is 'rocauc'; allowed: " + ", ".join(sorted(METRICS)) + ". "
            'Did you mean "roc_auc"?',
        ),
        (
            lambda: Metric(name="rmse", direction="higher"),
            "Metric 'rmse': direction is 'higher', but lower is better. Remove direction.",
        ),
        (
            lambda: Source(url="ftp://x", mirror="a", sample="a.b:c"),
            "Source.url is 'ftp://x'; allowed: https://, http://, file:// or empty. Give the file's full address.",
        ),
        (
            lambda: Drift(psi=0),
            "Drift.psi is 0; allowed: 0.01 to 10. Set Drift.psi to a number in that range.",
        ),
    ],
)
def test_a_wrong_part_names_field_value_and_fix(make: Any, text: str) -> None:
    with pytest.raises(ContractError) as caught:
        make()
    assert str(caught.value) == text


def test_a_slice_names_a_feature() -> None:
    gate = dataclasses.replace(declare().gate, slices=(Slice(column="alive", bound=0.1),))
    with pytest.raises(ContractError, match=r"Slice\.column is 'alive'; allowed: age, sex"):
        declare(gate=gate)


def test_declarations_are_frozen() -> None:
    project = declare()
    with pytest.raises(dataclasses.FrozenInstanceError):
        project.name = "other"  # type: ignore[misc]  # this is what the test is about
    with pytest.raises(TypeError):
        project.example["age"] = 1  # type: ignore[index]  # this is what the test is about


@given(st.text(max_size=60))
@example("MLFLOW")
@example("Titanic Monitor")
@example("X" * 60)
def test_any_name_is_either_right_or_comes_with_a_right_one(name: str) -> None:
    try:
        declare(name=name)
    except ContractError as error:
        better = str(error).rsplit('"', 2)[1]
        declare(name=better)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_better_is_a_strict_order(left: float, right: float) -> None:
    for name in ("rmse", "roc_auc"):
        metric = Metric(name=name)
        assert not (metric.better(left, right) and metric.better(right, left))
        assert metric.better(left, right) or metric.better(right, left) or left == right


def test_the_contract_imports_the_standard_library_alone() -> None:
    code = (
        "import sys; before = set(sys.modules); import phaseflow, phaseflow.registry, phaseflow.settings, phaseflow.store,"
        " phaseflow.events, phaseflow.reference; "
        "new = {m.split('.')[0] for m in set(sys.modules) - before}; "
        "print(sorted(new - sys.stdlib_module_names - {'phaseflow'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
