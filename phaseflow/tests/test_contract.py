"""A wrong declaration fails immediately, and the error contains the fix."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from phaseflow import Candidate, Column, ContractError, Drift, Gate, Metric, Project, Schema, Slice, Source

PHASES = (
    "allowed: 1 (foundations), 2 (classic machine learning), 3 (deep learning), 4 (vision, language and generative AI), "
    "5 (MLOps), 6 (capstones). Set Project.phase to the chapter of the roadmap that the project illustrates."
)
SOURCE = Source(url="https://example.org/a.csv", mirror="a.csv", sample="toy.data:sample")


def declare(**changes: Any) -> Project:
    """Create a small valid project; `changes` replace its fields."""
    values: dict[str, Any] = {
        "name": "toy",
        "title": "A toy",
        "phase": 2,
        "source": SOURCE,
        "schema": Schema(
            features=(Column(name="age", kind="number", nullable=True), Column(name="sex", kind="category")),
            target=Column(name="alive", kind="category", allowed=("0", "1")),
        ),
        "transform": "toy.data:transform",
        "train": "toy.model:train",
        "candidates": (Candidate(name="tree"),),
        "metrics": (Metric(name="roc_auc", threshold=0.7),),
        "example": {"age": 3.0, "sex": "male"},
    }
    return Project(**(values | changes))


def test_a_valid_project_converts_to_json() -> None:
    project = declare()
    assert json.loads(json.dumps(project.to_dict()))["schema"]["features"][0]["name"] == "age"
    assert project.primary.direction == "higher"
    assert project.monitored_features == ("age", "sex")


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (None, "clustering"),
        (Column(name="t", kind="category"), "classification"),
        (Column(name="t", kind="boolean"), "classification"),
        (Column(name="t", kind="integer"), "regression"),
        (Column(name="t", kind="number"), "regression"),
        (Column(name="t", kind="text"), "generation"),
        (Column(name="t", kind="boxes"), "detection"),
        (Column(name="t", kind="ranking"), "ranking"),
        (Column(name="t", kind="action", shape=(2,)), "control"),
    ],
)
def test_the_kind_of_the_target_decides_the_task(target: Column | None, task: str) -> None:
    schema = Schema(features=(Column(name="age", kind="number"),), target=target)
    project = declare(schema=schema, example={"age": 1}, evaluate="toy.model:evaluate")
    assert project.task == project.to_dict()["task"] == task


@pytest.mark.parametrize("name", ["intersection_over_union", "perplexity", "return"])
def test_a_metric_that_nothing_computes_has_no_standard_direction(name: str) -> None:
    with pytest.raises(ContractError, match=rf"Metric\.name \(without a direction\) is '{name}'; allowed: accuracy, "):
        Metric(name=name)


def test_a_threshold_may_depend_on_the_origin_of_the_data() -> None:
    metric = Metric(name="roc_auc", threshold={"sample": 0.9, "public": 0.8})
    assert [metric.limit(source) for source in ("sample", "package", "public", "cache", "mirror")] == [
        0.9,
        None,
        0.8,
        0.8,
        0.8,
    ]
    assert metric.thresholds == ">= 0.9 (sample), >= 0.8 (public)"
    assert Metric(name="mae", threshold=3).thresholds == "<= 3"
    assert Metric(name="mae").thresholds == ""
    assert json.loads(json.dumps(declare(metrics=(metric,)).to_dict()))["metrics"][0]["threshold"] == dict(
        metric.threshold or {}
    )


@pytest.mark.parametrize(
    ("threshold", "error"),
    [
        ({}, r"Metric 'roc_auc': threshold is empty; allowed: at least one value\. Set Metric 'roc_auc': threshold\."),
        (
            {"mirror": 0.9},
            r"Metric 'roc_auc': an origin of threshold is 'mirror'; allowed: package, public, sample\. Set .* to one of these values",
        ),
        (
            {"sample": "much"},
            r"Metric 'roc_auc': threshold of sample is 'much'; allowed: -1e\+12 to 1e\+12\. Set .* number",
        ),
        (
            True,
            r"Metric 'roc_auc': threshold is True; allowed: -1e\+12 to 1e\+12\. Set Metric 'roc_auc': threshold to a number",
        ),
    ],
)
def test_the_error_of_a_wrong_threshold_contains_the_fix(threshold: Any, error: str) -> None:
    with pytest.raises(ContractError, match=error):
        Metric(name="roc_auc", threshold=threshold)


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
def test_the_error_of_a_wrong_gate_contains_the_fix(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(ContractError, match=error):
        Gate(**changes)


PHOTO = Column(name="photo", kind="image", shape=(2, 2, 1))


def test_non_scalar_features_are_monitored_by_their_descriptors() -> None:
    schema = Schema(features=(PHOTO, Column(name="age", kind="number")), target=Column(name="alive", kind="category"))
    changes = {"schema": schema, "example": {"photo": "x", "age": 1}}
    assert declare(**changes).monitored_features == ("photo.brightness", "photo.contrast", "photo.sharpness", "age")
    assert declare(**changes, drift=Drift(features=("photo",))).monitored_features == PHOTO.descriptors
    assert declare(**changes, drift=Drift(features=("age", "photo.contrast"))).monitored_features == (
        "age",
        "photo.contrast",
    )
    with pytest.raises(ContractError, match=r"Drift.features is 'photo.contrst'; .*Did you mean \"photo.contrast\"\?"):
        declare(**changes, drift=Drift(features=("photo.contrst",)))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"name": "House Prices"},
            "Project.name is 'House Prices'; allowed: lower-case letters, digits and _, a letter first, at most 48. "
            'Rename it, for example "house_prices".',
        ),
        ({"title": ""}, "Project.title is empty; allowed: at least one value. Set Project.title."),
        ({"phase": 7}, f"Project.phase is 7; {PHASES}"),
        ({"phase": True}, f"Project.phase is True; {PHASES}"),
        ({"phase": 2.5}, f"Project.phase is 2.5; {PHASES}"),
        (
            {"train": "train"},
            "Project.train is 'train'; allowed: 'project.module:function'. Set Project.train to the path of a function, "
            "for example 'titanic.model:train'.",
        ),
        (
            {"candidates": (Candidate(name="a"), Candidate(name="a"))},
            "Project.candidates contains 'a' more than once; allowed: unique values. Remove the duplicate.",
        ),
        ({"metrics": ()}, "Project.metrics is empty; allowed: at least one value. Set Project.metrics."),
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
        (
            {"environment": "torhc"},
            "Project.environment is 'torhc'; allowed: language, tabular, torch. Did you mean \"torch\"?",
        ),
        (
            {"metrics": (Metric(name="rmse"),)},
            "Project.metrics contains 'rmse', which phaseflow does not compute for the task classification; allowed: accuracy, "
            "balanced_accuracy, f1, log_loss, precision, recall, roc_auc, brier. Use one of them, or set Project.evaluate to "
            "a function that returns it.",
        ),
        (
            {"metrics": (Metric(name="acuracy", direction="higher"),)},
            "Project.metrics contains 'acuracy', which phaseflow does not compute for the task classification; allowed: "
            'accuracy, balanced_accuracy, f1, log_loss, precision, recall, roc_auc, brier. Did you mean "accuracy"?',
        ),
        (
            {"schema": Schema(features=(Column(name="age", kind="number"),)), "example": {"age": 1}},
            "Project.metrics contains 'roc_auc', which phaseflow does not compute for the task clustering; allowed: none. "
            "Set Project.evaluate to a function that returns it.",
        ),
        (
            {"group": "alive"},
            "Project.group is 'alive', the target, which is unknown until the label arrives. Use a feature or a column of "
            "the source.",
        ),
        (
            {"group": "age"},
            "Project.group: kind of 'age' is 'number'; allowed: category, id, integer, text. Set Project.group: kind of 'age' "
            "to one of these values.",
        ),
        (
            {"trusted_clients": ("shop", "shop")},
            "Project.trusted_clients contains 'shop' more than once; allowed: unique values. Remove the duplicate.",
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
            "Project.group is 'name', a personal column that the log omits. Give that column kind=\"id\", so that its values "
            "are hashed, or use another column.",
        ),
        (
            {"trusted_clients": ("",)},
            "Project.trusted_clients contains ''; allowed: names of tokens, without whitespace. Add a line `name token` for the client to "
            "the secret feedback_tokens, and use that name here.",
        ),
        (
            {"temporal_group": "age"},
            "Project.temporal_group is 'age'; allowed: a feature of kind id (there is none). Name such a feature, give that column "
            'kind="id", or remove temporal_group.',
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
def test_the_error_of_a_wrong_project_contains_field_value_and_fix(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ContractError) as error:
        declare(**changes)
    assert str(error.value) == text


def test_a_slice_must_refer_to_a_feature() -> None:
    gate = dataclasses.replace(declare().gate, slices=(Slice(column="alive", threshold=0.1),))
    with pytest.raises(ContractError, match=r"Slice\.column is 'alive'; allowed: age, sex"):
        declare(gate=gate)


def test_declarations_are_frozen() -> None:
    project = declare()
    with pytest.raises(dataclasses.FrozenInstanceError):
        project.name = "other"  # type: ignore[misc]  # the assignment under test
    with pytest.raises(TypeError):
        project.example["age"] = 1  # type: ignore[index]  # the assignment under test


@given(st.text(max_size=60))
@example("MLFLOW")
@example("Titanic Monitor")
@example("X" * 60)
def test_the_error_of_any_wrong_name_proposes_a_valid_name(name: str) -> None:
    try:
        declare(name=name)
    except ContractError as error:
        proposal = str(error).rsplit('"', 2)[1]
        declare(name=proposal)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_better_is_a_strict_total_order(left: float, right: float) -> None:
    for name in ("rmse", "roc_auc"):
        metric = Metric(name=name)
        assert not (metric.better(left, right) and metric.better(right, left))
        assert metric.better(left, right) or metric.better(right, left) or left == right


def test_the_contract_imports_only_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import phaseflow, phaseflow.discovery, phaseflow.settings, phaseflow.store,"
        " phaseflow.events, phaseflow.reference; "
        "new = {m.split('.')[0] for m in set(sys.modules) - before}; "
        "print(sorted(new - sys.stdlib_module_names - {'phaseflow'}))"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "[]"
