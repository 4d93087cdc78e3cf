"""Values of every kind: kept and read again, checked, measured, and what they are said to be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phaseflow import Column, answers, derived
from phaseflow.contract import OUTPUTS

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
def test_what_is_kept_reads_as_it_was_and_is_spelled_in_one_way(kind: str) -> None:
    target, values = VALUES[kind]

    @given(values)
    def holds(value: Any) -> None:
        text = answers.kept(value, target)
        assert isinstance(text, str)
        assert answers.read(text, target) == value
        assert answers.canonical(text, target) == text
        assert answers.checked(value, target) == value
        assert len(derived.figures(target, value)) == len(answers.watched(target))
        perfect = answers.losses(value, value, target)
        assert set(perfect) == set(answers.loss_names(target, ()))
        assert all(loss == pytest.approx(0) for loss in perfect.values())

    holds()


def test_every_kind_is_named() -> None:
    assert set(OUTPUTS) == set(VALUES)
    assert answers.watched(BOXES) == ("prediction.count", "prediction.size")
    assert answers.watched(ACTION) == ("prediction.0", "prediction.1")
    assert answers.watched(CLASS) == answers.watched(None) == answers.watched(NUMBER) == ("prediction",)
    assert [answers.kind(one, ()) for one in (BOXES, NUMBER)] == ["boxes", "number"]
    assert [answers.kind(one, ("a", "b")) for one in (CLASS, None)] == ["category", "category"]


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
        ("[" * 2000, ACTION),
    ],
)
def test_what_is_no_such_value_is_none(text: str, target: Column) -> None:
    assert answers.canonical(text, target) is None


@given(st.lists(side, min_size=4, max_size=4), st.lists(side, min_size=4, max_size=4))
def test_overlap_is_symmetric_and_at_most_one(left: list[float], right: list[float]) -> None:
    assert answers.overlap(left, right) == pytest.approx(answers.overlap(right, left))
    assert 0 <= answers.overlap(left, right) <= 1 + 1e-9
    assert answers.overlap(left, left) == pytest.approx(1)


def test_overlap_of_halves() -> None:
    assert answers.overlap([0, 0, 2, 2], [1, 0, 2, 2]) == pytest.approx(1 / 3)
    assert answers.overlap([0, 0, 2, 2], [2, 0, 2, 2]) == 0


def test_a_true_box_is_found_once() -> None:
    cat = {"box": [0, 0, 10, 10], "label": "cat"}
    assert answers.matches([cat, cat], [cat]) == 1
    assert answers.matches([cat | {"label": "dog"}], [cat]) == 0
    assert answers.losses([cat, cat], [cat], BOXES) == {"error": pytest.approx(1 / 3)}
    assert answers.losses([cat | {"score": 0.4}], [cat], BOXES) == {"error": 1.0}


def test_scalars_keep_their_losses() -> None:
    assert answers.losses(3.0, 5.0, NUMBER) == {"absolute": 2.0, "squared": 4.0}
    assert answers.losses("0", "1", CLASS) == {"error": 1.0}
    assert answers.losses("0", "0", CLASS) == {"error": 0.0}
