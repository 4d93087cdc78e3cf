"""A wrong part of a declaration fails immediately, and the error contains the fix."""

from __future__ import annotations

from typing import Any

import pytest

from phaseflow import Column, ContractError, Drift, File, Metric, Schema, Source
from phaseflow.contract import METRICS

PHOTO = Column(name="photo", kind="image", shape=(2, 2, 1))


@pytest.mark.parametrize(
    ("create", "text"),
    [
        (
            lambda: Column(name="age", kind="float"),
            "Column 'age': kind is 'float'; allowed: action, boolean, boxes, category, id, image, integer, number, ranking, "
            "text. Set Column 'age': kind to one of these values.",
        ),
        (
            lambda: Column(name="age", kind="numbr"),
            "Column 'age': kind is 'numbr'; allowed: action, boolean, boxes, category, id, image, integer, number, ranking, "
            'text. Did you mean "number"?',
        ),
        (
            lambda: Column(name="v", kind="vector", shape=(3,)),
            "Column 'v': kind is 'vector', which is not implemented; allowed: action, boolean, boxes, category, id, image, "
            'integer, number, ranking, text. Use one column of kind "number" per element, or write the kind '
            "(docs/how-to/add-a-kind.md).",
        ),
        (
            lambda: Column(name="m", kind="mask", shape=(3, 3)),
            "Column 'm': kind is 'mask', which is not implemented; allowed: action, boolean, boxes, category, id, image, "
            'integer, number, ranking, text. Use kind "boxes", or write the kind (docs/how-to/add-a-kind.md).',
        ),
        (
            lambda: Column(name="d", kind="date"),
            "Column 'd': kind is 'date', which is not implemented; allowed: action, boolean, boxes, category, id, image, "
            'integer, number, ranking, text. Derive numbers such as the month in `transform`, or use kind "category".',
        ),
        (
            lambda: Schema(features=(Column(name="bought", kind="ranking"),)),
            "Schema.features contains 'bought' of kind 'ranking'; allowed for features: number, integer, boolean, category, "
            "text, id, image. Use it as the target, or convert it in `transform`",
        ),
        (
            lambda: Schema(features=(Column(name="age", kind="number"),), target=PHOTO),
            "Schema.target 'photo' is of kind 'image'; allowed for targets: number, integer, boolean, category, text, id, "
            "boxes, ranking, action. Use it as a feature, or convert it in `transform`",
        ),
        (
            lambda: Schema(features=(Column(name="score", kind="number"),)),
            "Column.name is 'score', which the prediction log or the outputs of a model already use. Rename it in "
            '`transform`, for example "score_".',
        ),
        (
            lambda: Column(name="age", kind="number", minimum=3, maximum=1),
            "Column 'age': minimum is 3, above maximum 1. Swap the two values.",
        ),
        (
            lambda: Column(name="sex", kind="category", minimum=0),
            "Column 'sex': a range is set for kind 'category'; allowed: number, integer, action. Remove the range.",
        ),
        (
            lambda: Column(name="n", kind="integer", allowed=("1",)),
            "Column 'n': allowed is set for kind 'integer'; allowed: category, boxes. Remove it, or set "
            'kind="category".',
        ),
        (
            lambda: Column(name="age", kind="number", shape=(3,)),
            "Column 'age': shape is (3,), but kind 'number' has none. Remove shape.",
        ),
        (
            lambda: Column(name="photo", kind="image"),
            "Column 'photo': shape is empty for kind 'image'. Set the shape, for example (28, 28, 1).",
        ),
        (
            lambda: Column(name="photo", kind="image", shape=(28, 28, 4)),
            "Column 'photo': shape is (28, 28, 4); allowed: (height, width, 1) for grayscale, (height, width, 3) for RGB. "
            "Set the shape, for example (28, 28, 1).",
        ),
        (
            lambda: Column(name="photo", kind="image", shape=(28, 28, 1), nullable=True),
            "Column 'photo': an image is nullable, but a model needs it for every prediction. Remove nullable.",
        ),
        (
            lambda: Source(url="", mirror="a", sample="a.b:c", more=(File(url="", mirror="b"),)),
            "Source.read is empty, but the source has several files. Set Source.read to a function that takes the contents of "
            "all files.",
        ),
        (
            lambda: Source(url="", mirror="a", sample="a.b:c", read="a.b:d", more=(File(url="", mirror="a"),)),
            "Source.mirror contains 'a' more than once; allowed: unique values. Remove the duplicate.",
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
            "Source.url is 'ftp://x'; allowed: https://, http://, file:// or empty. Use the full address of the file.",
        ),
        (
            lambda: Drift(psi=0),
            "Drift.psi is 0; allowed: 0.01 to 10. Set Drift.psi to a number in that range.",
        ),
    ],
)
def test_the_error_of_a_wrong_part_contains_field_value_and_fix(create: Any, text: str) -> None:
    with pytest.raises(ContractError) as error:
        create()
    assert str(error.value) == text
