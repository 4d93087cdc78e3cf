"""Every kind: storage, tensor, JSON and drift statistics of a value."""

from __future__ import annotations

import ast
import base64
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from onnx import TensorProto

from phaseflow import Column, kinds
from phaseflow.kinds import image_files, tensors
from phaseflow.kinds.kind import JsonType
from phaseflow.settings import ROOT
from phaseflow.toolkit import source

PIXELS = bytes([0, 64, 128, 255])
VALUES: dict[str, tuple[Column, Any, Any]] = {
    "number": (Column(name="x", kind="number"), 1.5, "text"),
    "integer": (Column(name="x", kind="integer"), 3, 3.5),
    "boolean": (Column(name="x", kind="boolean"), True, "maybe"),
    "category": (Column(name="x", kind="category"), "red", None),
    "text": (Column(name="x", kind="text"), "A fine day", None),
    "id": (Column(name="x", kind="id"), "u1", None),
    "image": (Column(name="x", kind="image", shape=(2, 2, 1)), PIXELS, b"short"),
    "boxes": (Column(name="x", kind="boxes", allowed=("cat",)), '[{"box":[0.0,0.0,1.0,1.0],"label":"cat"}]', "[3]"),
    "ranking": (Column(name="x", kind="ranking"), '["a","b"]', '["a","a"]'),
    "action": (Column(name="x", kind="action", shape=(2,), minimum=0, maximum=1), "[0.5,1.0]", "[2,2]"),
}
"""For each kind: a column, a stored value, and a value of a source that is not one (None if every value is)."""


def test_every_kind_is_tested() -> None:
    assert VALUES.keys() == kinds.KINDS.keys()
    assert not kinds.KINDS.keys() & kinds.UNAVAILABLE.keys()


@pytest.mark.parametrize("kind", VALUES)
def test_a_stored_value_stays_and_an_invalid_one_becomes_null(kind: str) -> None:
    column, value, invalid = VALUES[kind]
    stored = pl.DataFrame({"x": [value]}).select(source.typed(column))["x"]
    assert (stored.to_list(), stored.dtype) == ([value], source.dtype(column))
    if invalid is not None:
        assert pl.DataFrame({"x": [invalid]}).select(source.typed(column))["x"].to_list() == [None]


@pytest.mark.parametrize("kind", VALUES)
def test_rows_and_dataframes_give_the_same_tensor(kind: str) -> None:
    column, value, _ = VALUES[kind]
    tensor = tensors.of(column)
    series = pl.Series("x", [value, value], dtype=source.dtype(column))
    from_series, from_values = tensor.from_series(series, column), tensors.converter(column)([value, value])
    np.testing.assert_array_equal(from_series, from_values)
    assert from_series.dtype == from_values.dtype
    assert from_values.shape == (2, *tensor.shape(column))
    assert kinds.of(column).tensor in tensors.TENSORS
    assert TensorProto.DataType.Value(kinds.of(column).tensor)


def test_missing_values_of_a_tensor() -> None:
    assert np.isnan(tensors.converter(VALUES["number"][0])([None, 1.0])[0, 0])
    assert tensors.converter(VALUES["text"][0])([None, "a"])[0, 0] == ""


@pytest.mark.parametrize("kind", VALUES)
def test_each_statistic_has_a_value(kind: str) -> None:
    column, value, _ = VALUES[kind]
    prediction = kinds.of(column).prediction
    if prediction and prediction.serialized:
        value = ast.literal_eval(value)
    assert len(kinds.describe(column, value)) == len(column.descriptors)
    assert kinds.describe(column, None) == (None,) * len(column.descriptors)
    if kinds.of(column).statistics(column):
        numeric = kinds.of(column).has_numeric_statistics
        assert {isinstance(item, float | int) for item in kinds.describe(column, value) if item is not None} == {
            numeric
        }


def test_an_image_survives_its_json() -> None:
    column, value, _ = VALUES["image"]
    sent = kinds.IMAGE.encode(value, column)
    for text in (sent, f"data:image/png;base64,{sent}"):
        assert image_files.decode(kinds.IMAGE.read(text), column.shape) == value
    with pytest.raises(ValueError, match="Incorrect padding"):
        kinds.IMAGE.read(base64.b64encode(b"abcd").decode()[:-1])


def test_few_files_compare_the_kind_of_a_column() -> None:
    """What depends on a kind belongs into its class. The exceptions are about one kind, see docs/adr/0043."""
    allowed = {
        "phaseflow/contract/project.py",  # temporal_group is an id
        "phaseflow/toolkit/holdout.py",  # spelling of a group, which need not be a feature
        "phaseflow/toolkit/twins.py",  # near-duplicates of images
        "phaseflow/toolkit/pixels.py",  # models of the only image
        "phaseflow/toolkit/bag.py",  # models of the only text
        "pipelines/steps/profile.py",  # a gallery of images, a table of texts
    }
    comparing = set()
    folders = ("phaseflow", "pipelines", "services/serving", "services/monitor", "monitoring", "dags")
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py") if "tests" not in path.parts):
        for node in ast.walk(ast.parse(path.read_text())):
            operands = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            named = any(isinstance(item, ast.Attribute) and item.attr == "kind" for item in operands)
            words = {
                item.value for part in operands for item in ast.walk(part) if isinstance(item, ast.Constant)
            } & kinds.KINDS.keys()
            if named and words:
                comparing.add(str(path.relative_to(ROOT)))
    assert comparing == allowed


@pytest.mark.parametrize(
    ("accepted", "valid", "invalid"),
    [
        (JsonType(base=float, limits={"ge": 0, "le": 5}), [0, 2.5, 5], [-1, 5.5, True, "1", math.nan, None]),
        (JsonType(base=float), [10**400, -1e308], [math.inf, -math.inf]),
        (JsonType(base=int), [3, 3.0, -(2**63)], [3.5, True, "3", math.nan, math.inf]),
        (JsonType(base=bool, nullable=True), [True, False, None], [1, 0.0, "true"]),
        (JsonType(base=str, limits={"min_length": 1, "max_length": 2}), ["a", "ab"], ["", "abc", 1, b"a", None]),
        (JsonType(base=str, limits={"pattern": r"^\d{4}$"}), ["2026"], ["26", "20266"]),
        (JsonType(base=str, alternatives=(int, bool)), ["a", 1, True], [1.5]),
        (JsonType(base=list), [[], [1]], ["[]", (1,)]),
    ],
)
def test_a_type_accepts_its_values(accepted: JsonType, valid: list[Any], invalid: list[Any]) -> None:
    assert [value for value in valid if not accepted.accepts(value)] == []
    assert [value for value in invalid if accepted.accepts(value)] == []
