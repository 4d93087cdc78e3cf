"""Descriptors of images, texts and ids."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phaseflow import Column, Schema, kinds
from phaseflow.kinds.text import MAX_WORDS, frequent_words
from phaseflow.toolkit.scalars import scalars, vocabularies

IMAGE = Column(name="photo", kind="image", shape=(4, 4, 1))
TEXT = Column(name="review", kind="text")
SCHEMA = Schema(features=(Column(name="age", kind="number"), IMAGE, TEXT))


def image(values: object) -> bytes:
    return np.broadcast_to(np.asarray(values, np.uint8), (4, 4)).tobytes()


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (image(0), (0, 0, 0)),
        (image(255), (1, 0, 0)),
        (image([0, 255, 0, 255]), (0.5, 0.5, 0.5)),  # steps across, none down
        (image([[0], [0], [255], [255]]), (0.5, 0.5, 1 / 6)),  # one of three steps down
    ],
)
def test_descriptors_of_an_image(pixels: bytes, expected: tuple[float, ...]) -> None:
    assert kinds.describe(IMAGE, pixels) == pytest.approx(expected)


def test_an_image_of_one_row_has_steps_along_the_row_only() -> None:
    column = Column(name="line", kind="image", shape=(1, 2, 3))
    assert kinds.describe(column, bytes([0, 0, 0, 255, 255, 255])) == pytest.approx((0.5, 0.5, 1))
    assert kinds.describe(Column(name="dot", kind="image", shape=(1, 1, 1)), b"\xff") == (1, 0, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A fine film, isn't it?", (22, 5, 3.2, 0.4)),
        ("", (0, 0, None, None)),
        ("... !", (5, 0, None, None)),
        ("Größe ist 3", (11, 3, 3, 1)),
        (None, (None, None, None, None)),
    ],
)
def test_descriptors_of_a_text(text: str | None, expected: tuple[float | None, ...]) -> None:
    assert kinds.describe(TEXT, text, {"a", "fine", "it"}) == expected


def test_known_words_are_frequent() -> None:
    texts = ["the film the film", "the end", None, "film noir"]
    assert frequent_words(texts) == ("film", "the")
    many = [" ".join(f"w{number}" for number in range(2000))] * 3
    assert len(frequent_words(many)) == MAX_WORDS


@settings(deadline=None)  # a busy machine may pause for long
@given(st.text(max_size=200))
def test_every_text_has_descriptors(text: str) -> None:
    figures = kinds.describe(TEXT, text, {"a"})
    assert len(figures) == len(TEXT.descriptors)
    assert all(value is None or value >= 0 for value in figures)
    assert figures[3] is None or figures[3] <= 1


@settings(deadline=None)  # a busy machine may pause for long
@given(st.binary(min_size=16, max_size=16))
def test_descriptors_of_images_are_between_0_and_1(pixels: bytes) -> None:
    assert all(value is not None and 0 <= value <= 1 + 1e-6 for value in kinds.describe(IMAGE, pixels))


def test_an_id_is_known_or_new() -> None:
    schema = Schema(features=(Column(name="user", kind="id"),))
    newest, every = pl.DataFrame({"user": ["b", None]}), pl.DataFrame({"user": ["b", "a", "a", None]})
    assert vocabularies(schema, newest, every) == {"user": ("a", "b")}
    described = scalars(schema, pl.DataFrame({"user": ["a", "c", None]}), {"user": ("a", "b")})
    assert described.to_dict(as_series=False) == {"user.familiar": ["known", "new", None]}


def test_rows_keep_their_scalars_and_get_columns_of_descriptors() -> None:
    rows = pl.DataFrame(
        {"age": [1.0, 2.0], "photo": [image(0), image(255)], "review": ["the the the end", None], "_key": ["a", "b"]},
        schema_overrides={"photo": pl.Binary},
    )
    vocabulary = vocabularies(SCHEMA, rows)
    assert vocabulary == {"review": ("the",)}
    described = scalars(SCHEMA, rows, vocabulary)
    assert set(described.columns) == {"age", "_key", *IMAGE.descriptors, *TEXT.descriptors}
    assert described["photo.brightness"].to_list() == [0, 1]
    assert described["review.unknown"].to_list() == [0.25, None]
    assert {described[name].dtype for name in (*IMAGE.descriptors, *TEXT.descriptors)} == {pl.Float64()}
