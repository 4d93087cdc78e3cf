"""Free texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from phaseflow.errors import DataError
from phaseflow.kinds import spelling
from phaseflow.kinds.kind import (
    MAX_TEXT_CHARACTERS,
    Array,
    ColumnSpec,
    Expr,
    JsonType,
    Kind,
    Prediction,
    f1_score,
)

WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
MAX_WORDS: Final = 1000
"""Maximum number of words in a vocabulary."""
MIN_DF: Final = 3
"""Minimum number of occurrences of a word in the vocabulary. Rarer words are treated like new words."""


class Text(Kind, Prediction):
    """A free text."""

    name = "text"
    is_group = has_numeric_statistics = True
    vocabulary_statistics = ("unknown",)

    task = "generation"
    outputs = ("text",)

    @property
    def prediction(self) -> Prediction:
        """Texts: `text` text [N]."""
        return self

    def simplify(self, cell: Expr) -> Expr:
        """Without differences in case, blanks, punctuation and Unicode form."""
        return spelling.normalize(cell, punctuation=False)

    def json_type(self, column: ColumnSpec) -> JsonType:
        """A text, which may be empty."""
        limits = {"min_length": 0, "max_length": MAX_TEXT_CHARACTERS}
        return JsonType(base=str, limits=limits, nullable=column.nullable)

    def label_type(self, column: ColumnSpec) -> JsonType:
        """A text."""
        return JsonType(base=str, limits={"max_length": MAX_TEXT_CHARACTERS})

    def statistics(self, column: ColumnSpec) -> tuple[str, ...]:
        """Length in characters and words, the mean length of a word, and the share of unknown words."""
        return ("characters", "words", "word_length", "unknown")

    def describe(self, value: str, column: ColumnSpec, vocabulary: Collection[str]) -> tuple[float | None, ...]:
        """The statistics; without words the last two are undefined."""
        tokens = words(value)
        if not tokens:
            return float(len(value)), 0.0, None, None
        length = sum(map(len, tokens)) / len(tokens)
        unknown = sum(token not in vocabulary for token in tokens)
        return float(len(value)), float(len(tokens)), length, unknown / len(tokens)

    def vocabulary(self, newest: Iterable[str | None], every: Iterable[str | None]) -> tuple[str, ...]:
        """The frequent words of the newest rows."""
        return frequent_words(newest)

    def values(self, outputs: Mapping[str, Array], target: ColumnSpec | None) -> list[Any]:
        """The texts."""
        return list(outputs["text"].reshape(-1).tolist())

    def validate(self, value: Any, target: ColumnSpec) -> str:
        """Raise DataError unless the label is a text."""
        if not isinstance(value, str):
            raise DataError(f"The text is {value!r:.100}", fix="Send a text")
        return value

    def loss(self, prediction: Any, label: Any) -> dict[str, float]:
        """1 - F1 of the words (Rajpurkar et al., SQuAD, 2016)."""
        actual, expected = Counter(words(prediction)), Counter(words(label))
        return {"error": 1 - f1_score((actual & expected).total(), actual.total(), expected.total())}

    def json_schema(self, target: ColumnSpec | None, *, as_label: bool = False) -> dict[str, Any]:
        """A text."""
        return {"type": "string"}


def words(value: str) -> list[str]:
    """The words of a text in lower case, in order."""
    return WORD.findall(value.lower())


def frequent_words(values: Iterable[str | None]) -> tuple[str, ...]:
    """The vocabulary of texts, sorted: the `MAX_WORDS` most frequent words that occur at least `MIN_DF` times.

    It is small on purpose. Frequent words are equally frequent in similar texts, so the share of unknown words is the
    same in the texts that the vocabulary was built from and in new texts of the same kind.
    """
    counts = Counter(word for value in values if value is not None for word in words(value))
    frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_WORDS]
    return tuple(sorted(word for word, count in frequent if count >= MIN_DF))


TEXT: Final = Text()
