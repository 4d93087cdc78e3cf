"""Near-duplicates: rows in another spelling, images in another light, and rows that are neither."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from phaseflow import discovery
from phaseflow.toolkit import twins

TITANIC = discovery.get("titanic")
FILMS = discovery.get("film_sentiment")


def passengers(**changed: object) -> pl.DataFrame:
    row = {column.name: TITANIC.example.get(column.name) for column in TITANIC.schema.features}
    return pl.DataFrame([row | {"fare": 7.25, "survived": "1"} | changed]).cast({"deck": pl.String})


@pytest.mark.parametrize(
    ("changed", "twin"),
    [
        ({"fare": 7.2500001}, True),
        ({"fare": 7.2501}, False),
        ({"title": " mr"}, True),
        ({"title": "Mr."}, False),
        ({"age": None}, False),
        ({"sibsp": 2}, False),
        ({"survived": "0"}, True),
    ],
)
def test_numbers_are_rounded_and_categories_normalised(changed: dict[str, object], twin: bool) -> None:
    assert twins.twins(passengers(), passengers(**changed), TITANIC) == twin


@pytest.mark.parametrize(
    ("text", "twin"),
    [
        ("The plot is thin, but the cast is a delight!", True),
        ("the plot is thin but the cast is a delight", True),
        ("THE  PLOT\tIS THIN , BUT THE CAST IS A DELIGHT", True),
        ("the plot is thin , but the cast is no delight", False),
        ("", False),
    ],
)
def test_case_blanks_and_punctuation_of_texts_are_normalised(text: str, twin: bool) -> None:
    train = pl.DataFrame({"review": ["another one", "the plot is thin , but the cast is a delight"]})
    assert twins.twins(train, pl.DataFrame({"review": [text]}), FILMS) == twin


DIGITS = (load_digits().images[:200] * 255 / 16).round().astype(np.uint8)


def enlarged(images: np.ndarray, factor: int) -> np.ndarray:
    return np.kron(images, np.ones((1, factor, factor))).astype(np.uint8)


@pytest.mark.parametrize("factor", [1, 4])
@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda images: images, id="copy"),
        pytest.param(lambda images: images // 2 + 20, id="darker"),
        pytest.param(lambda images: 255 - images, id="negative"),
        pytest.param(
            lambda images: (images + np.random.default_rng(1).normal(0, 1, images.shape)).clip(0, 255).astype(np.uint8),
            id="noise",
        ),
    ],
)
def test_an_image_is_recognised_in_another_light(changed: object, factor: int) -> None:
    images = enlarged(DIGITS, factor)
    assert twins.similar_images(images, changed(images)).mean() == 1  # type: ignore[operator]


def test_different_images_are_not_twins() -> None:
    assert not twins.similar_images(DIGITS[:150], DIGITS[150:]).any()
    assert not twins.similar_images(DIGITS[:0], DIGITS).any()
    assert not twins.similar_images(DIGITS, DIGITS[:0]).any()
    even = np.full((1, 8, 8), 9, np.uint8)
    assert twins.similar_images(even, even + 1).all()
    assert not twins.similar_images(DIGITS, even).any()


@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
@settings(max_examples=30, deadline=None)
def test_the_buckets_miss_no_pair(seed: int, distance: int) -> None:
    random = np.random.default_rng(seed)
    train = random.integers(0, 256, (30, 9, 11)).astype(np.uint8)
    holdout = np.concatenate(
        [train[:10] * 0.5 + random.normal(0, 2, (10, 9, 11)), random.integers(0, 256, (10, 9, 11))]
    )
    holdout = holdout.clip(0, 255).astype(np.uint8)
    train_hashes, holdout_hashes = twins.fingerprints(train), twins.fingerprints(holdout)
    expected = [
        any(
            (holdout_hash != train_hash).sum() <= distance
            and abs(np.corrcoef(train_image.ravel(), image.ravel())[0, 1]) >= twins.ALIKE
            for train_image, train_hash in zip(train, train_hashes, strict=True)
        )
        for image, holdout_hash in zip(holdout, holdout_hashes, strict=True)
    ]
    assert twins.similar_images(train, holdout, distance).tolist() == expected


def test_coloured_images_are_compared_in_grey() -> None:
    project = discovery.get("detection")
    column = project.schema["image"]
    random = np.random.default_rng(3)
    colours = np.kron(random.integers(0, 256, (4, 8, 8, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    images = pl.DataFrame({"image": [image.tobytes() for image in colours]})
    dark = pl.DataFrame(
        {"image": [(image * 0.97).astype(np.uint8).tobytes() for image in colours[:3]] + [random.bytes(column.size)]}
    )
    assert twins.twins(images, dark, project) == 3
