"""How much a look at a holdout may still believe: many looks at the same rows find a lucky challenger sooner or later.

Alpha-investing (Foster and Stine, JRSS B 70, 2008): a champion begins with a wealth of error, `ALPHA`. Each look spends half of what is left as
its level, and rows that are new in the holdout give wealth back in proportion. So chance promotes over a champion at most with the probability
`ALPHA` for each time that the holdout is renewed, plus `FLOOR` a look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import polars as pl

ALPHA: Final = 0.05
FLOOR: Final = 0.001
"""The least level: a challenger that is far better wins at any look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One judgement of a challenger over a champion."""

    number: int
    """Counted since the champion's promotion."""
    level: float
    """One-sided: the first look's is 0.025, the lower half of an interval of 95 %."""
    left: float
    """Wealth after this look."""
    newest: str
    """The latest time among the holdout's rows, "" where none has one."""
    snapshot: str
    model: str
    """SHA-256 of the challenger."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def look(
    earlier: Mapping[str, Any] | None, rows: pl.DataFrame, *, snapshot: str, model: str, same: bool = False
) -> Look:
    """The level of this look at holdout rows [N], after the last look (`Look.to_dict`) that compared with the same champion.

    The same challenger on the same snapshot is the same look. Nothing is spent where the challenger predicts what the champion does (`same`).
    """
    if earlier is not None and (earlier["snapshot"], earlier["model"]) == (snapshot, model):
        return Look(**earlier)
    times = rows["_time"].drop_nulls().cast(pl.Datetime("us", "UTC")) if "_time" in rows.columns else pl.Series([])
    newest = times.max().isoformat() if len(times) else ""  # type: ignore[union-attr]  # the column holds times
    wealth, number = ALPHA, 1
    if earlier is not None:
        fresh = sum(time.isoformat() > earlier["newest"] for time in times.to_list()) / max(1, rows.height)
        wealth, number = min(ALPHA, earlier["left"] + ALPHA * fresh), earlier["number"] + 1
    level = max(wealth / 2, FLOOR)
    left = wealth if same else max(wealth - level, 0.0)
    return Look(number=number, level=level, left=left, newest=newest, snapshot=snapshot, model=model)
