"""Keys of entities."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from phaseflow.kinds.category import CATEGORY
from phaseflow.kinds.kind import ColumnSpec, Kind, Prediction


class Id(Kind):
    """The key of an entity, such as a user or an item."""

    name = "id"
    is_hashed = is_group = True
    vocabulary_statistics = ("familiar",)

    @property
    def prediction(self) -> Prediction:
        """Classes, as for `category`."""
        return CATEGORY

    def statistics(self, column: ColumnSpec) -> tuple[str, ...]:
        """Whether the id is familiar."""
        return ("familiar",)

    def describe(self, value: str, column: ColumnSpec, vocabulary: Collection[str]) -> tuple[str, ...]:
        """Whether the id is "known" or "new"."""
        return ("known" if value in vocabulary else "new",)

    def vocabulary(self, newest: Iterable[str | None], every: Iterable[str | None]) -> tuple[str, ...]:
        """All ids, sorted."""
        return tuple(sorted({value for value in every if value is not None}))


ID: Final = Id()
