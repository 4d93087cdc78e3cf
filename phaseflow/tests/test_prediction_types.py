"""Every type of predictions: serialization, validation, losses and names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phaseflow import Column, kinds, prediction_types
from phaseflow.errors import DataError
from phaseflow.kinds.boxes import intersection_over_union, match_boxes
from phaseflow.kinds.kind import normalize

BOXES = Column(name="things", kind="boxes", allowed=("cat", "dog"))
RANKING = Column(name="bought", kind="ranking")
ACTION = Column(name="steer", kind="action", shape=(2,), minimum=-1, maximum=1)
TEXT = Column(name="reply", kind="text")
CLASS = Column(name="digit", kind="category", allowed=("0", "1"))
NUMBER = Column(name="price", kind="number")

side = st.floats(0.5, 500)
box = st.builds(
    lambda sides, label: {"box": sides, "label": label},
    st.lists(side, min_size=4, max_size=4),
    st.sampled_from(["cat", "dog"]),
)
VALUES = {
    "boxes": (BOXES, st.lists(box, max_size=5)),
    "ranking": (RANKING, st.lists(st.text(min_size=1), unique=True)),
    "action": (ACTION, st.lists(st.floats(-1, 1), min_size=2, max_size=2)),
    "text": (TEXT, st.text()),
}


@pytest.mark.parametrize("kind", VALUES)
def test_serialization_round_trips_and_is_normalized(kind: str) -> None:
    target, values = VALUES[kind]

    @given(values)
    def check(value: Any) -> None:
        text = prediction_types.serialize(value, target)
        assert isinstance(text, str)
        assert prediction_types.parse(text, target) == value
        prediction = kinds.of_target(target)
        assert normalize(text, prediction, target) == text
        assert prediction_types.validate(value, target) == value
        assert len(kinds.describe(target, value)) == len(prediction_types.monitored_names(target))
        losses = prediction_types.losses(value, value, target)
        assert set(losses) == set(prediction_types.loss_names(target, ()))
        assert all(loss == pytest.approx(0) for loss in losses.values())

    check()


def test_every_kind_has_monitored_names() -> None:
    structured = {name for name, kind in kinds.KINDS.items() if kind.prediction and kind.prediction.structured}
    assert structured == set(VALUES)
    assert prediction_types.monitored_names(BOXES) == ("prediction.count", "prediction.size")
    assert prediction_types.monitored_names(ACTION) == ("prediction.0", "prediction.1")
    assert (
        prediction_types.monitored_names(CLASS)
        == prediction_types.monitored_names(None)
        == prediction_types.monitored_names(NUMBER)
        == ("prediction",)
    )
    assert [prediction_types.of(target, ()) for target in (BOXES, NUMBER)] == [kinds.BOXES, kinds.NUMBER]
    assert [prediction_types.of(target, ("a", "b")) for target in (CLASS, None)] == [kinds.CATEGORY, kinds.CATEGORY]


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("", BOXES),
        ("{}", BOXES),
        ('[{"box":[1,1,1],"label":"cat"}]', BOXES),
        ('[{"box":[1,1,1,-1],"label":"cat"}]', BOXES),
        ('[{"box":[1,1,1,NaN],"label":"cat"}]', BOXES),
        ('[{"box":[1,1,1,1],"label":"cow"}]', BOXES),
        ('["a",""]', RANKING),
        ('["a","a"]', RANKING),
        ("[0.5]", ACTION),
        ("[0.5,1.5]", ACTION),
        ("[0.5,true]", ACTION),
        (f"[0.5,1{'0' * 400}]", ACTION),
        ("[" * 2000, ACTION),
    ],
)
def test_an_invalid_value_is_normalized_to_none(text: str, target: Column) -> None:
    assert normalize(text, kinds.of_target(target), target) is None


@given(st.lists(side, min_size=4, max_size=4), st.lists(side, min_size=4, max_size=4))
def test_overlap_is_symmetric_and_at_most_one(left: list[float], right: list[float]) -> None:
    assert intersection_over_union(left, right) == pytest.approx(intersection_over_union(right, left))
    assert 0 <= intersection_over_union(left, right) <= 1 + 1e-9
    assert intersection_over_union(left, left) == pytest.approx(1)


def test_overlap_of_halves() -> None:
    assert intersection_over_union([0, 0, 2, 2], [1, 0, 2, 2]) == pytest.approx(1 / 3)
    assert intersection_over_union([0, 0, 2, 2], [2, 0, 2, 2]) == 0


def test_a_labelled_box_matches_once() -> None:
    cat = {"box": [0, 0, 10, 10], "label": "cat"}
    assert match_boxes([cat, cat], [cat]) == [True, False]
    assert match_boxes([cat | {"label": "dog"}], [cat]) == [False]
    assert prediction_types.losses([cat, cat], [cat], BOXES) == {"error": pytest.approx(1 / 3)}
    assert prediction_types.losses([cat | {"score": 0.4}], [cat], BOXES) == {"error": 1.0}


def test_detecting_a_difficult_box_is_neither_right_nor_wrong() -> None:
    cat, far = ({"box": box, "label": "cat"} for box in ([0, 0, 10, 10], [50, 50, 10, 10]))
    label = [cat, far | {"difficult": True}]
    assert match_boxes([far, cat, far], label) == [None, True, None]
    assert prediction_types.losses([cat], label, BOXES) == {"error": 0.0}
    assert prediction_types.losses([cat, far], label, BOXES) == {"error": 0.0}
    assert prediction_types.losses([far | {"label": "dog"}], [far | {"difficult": True}], BOXES) == {"error": 1.0}
    assert prediction_types.validate([cat | {"difficult": True}], BOXES) == [
        {"box": [0.0, 0.0, 10.0, 10.0], "label": "cat", "difficult": True}
    ]
    assert prediction_types.validate([cat | {"difficult": False}], BOXES) == [
        {"box": [0.0, 0.0, 10.0, 10.0], "label": "cat"}
    ]
    with pytest.raises(DataError, match=r"difficult is 1\. Send true, or leave it out"):
        prediction_types.validate([cat | {"difficult": 1}], BOXES)


def test_losses_of_scalars() -> None:
    assert prediction_types.losses(3.0, 5.0, NUMBER) == {"absolute": 2.0, "squared": 4.0}
    assert prediction_types.losses("0", "1", CLASS) == {"error": 1.0}
    assert prediction_types.losses("0", "0", CLASS) == {"error": 0.0}
