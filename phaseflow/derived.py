"""Figures of values that are no scalars, by which their drift is watched: how bright an image is, how long a text.

The pipeline's reference, the service's live counts and the monitor's report compute them here, so that they agree.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from phaseflow.contract import Column

WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
MOST_WORDS: Final = 1000
LEAST_TIMES: Final = 3
"""How often a word occurs before it is known: one that stands in a single text is as strange as a new one."""

Figures = tuple[float | str | None, ...]


def figures(column: Column, value: Any, known: Collection[str] = ()) -> Figures:
    """The figures of one value, in the order of `column.figures`; None where it has none.

    `value` is the bytes of an image (its pixels, 0 to 255, of `column.shape`), a text, or what `phaseflow.answers` gives of
    boxes, a ranking or an action; `known` are a text's known words, or the known ids.
    """
    if value is None:
        return (None,) * len(column.figures)
    match column.kind:
        case "image":
            found = image(value, column.shape)
        case "text":
            found = text(value, known)
        case "boxes":
            found = boxes(value)
        case "ranking":
            found = (value[0] if value else None,)
        case "id":
            found = ("known" if value in known else "new",)
        case _:
            found = tuple(value)
    return found


def boxes(value: Sequence[Mapping[str, Any]]) -> Figures:
    """How many boxes, and the mean side of one: the root of its area, in pixels."""
    sides = [math.sqrt(max(one["box"][2] * one["box"][3], 0)) for one in value]
    return float(len(sides)), sum(sides) / len(sides) if sides else None


def image(pixels: bytes, shape: tuple[int, ...]) -> Figures:
    """Brightness (mean), contrast (standard deviation) and sharpness (mean step to the next pixel), each of 0 to 1."""
    import numpy as np  # noqa: PLC0415  # what only asks for names does without

    values = np.frombuffer(pixels, np.uint8).reshape(shape).astype(np.float32) / 255
    steps = [np.abs(np.diff(values, axis=axis)) for axis in (0, 1) if shape[axis] > 1]
    sharpness = float(np.mean([step.mean() for step in steps])) if steps else 0.0
    return float(values.mean()), float(values.std()), sharpness


def text(value: str, known: Collection[str] = ()) -> Figures:
    """Characters, words, mean characters of a word, and the share of words that are not `known`."""
    found = words(value)
    if not found:
        return float(len(value)), 0.0, None, None
    length = sum(map(len, found)) / len(found)
    return float(len(value)), float(len(found)), length, sum(word not in known for word in found) / len(found)


def words(value: str) -> list[str]:
    """The words of a text, in lower case, in order."""
    return WORD.findall(value.lower())


def vocabulary(values: Iterable[str | None]) -> tuple[str, ...]:
    """The known words of texts, sorted: the `MOST_WORDS` most frequent of those that occur `LEAST_TIMES`.

    Few on purpose: a frequent word is as frequent in other texts, so that the share of unknown ones is the same in the
    texts that the vocabulary was made of and in new ones of the same kind.
    """
    counts = Counter(word for value in values if value is not None for word in words(value))
    frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_WORDS]
    return tuple(sorted(word for word, times in frequent if times >= LEAST_TIMES))
