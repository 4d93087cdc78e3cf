"""What was tried, what got in, and what was lost: counted by the tests of security and faults, and printed when they have ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One attack or fault."""

    what: str
    tried: int
    """Requests, kills, or whatever the attack consists of."""
    got_in: Sequence[str] = ()
    """Each try that had an effect it must not have, or whose response was wrong."""
    lost: Sequence[str] = ()
    """Ids of answered predictions that the log lacks or holds twice, and predictions that failed although they need not."""
    note: str = ""
    """A measured time, for example."""


@dataclass(slots=True)
class Tally:
    """The rows of one session, in the order of the tests."""

    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Count a row; raises AssertionError where something got in or was lost."""
        self.rows.append(row)
        assert not row.got_in, f"{row.what}: {len(row.got_in)} of {row.tried} got in: {_some(row.got_in)}"
        assert not row.lost, f"{row.what}: {len(row.lost)} lost: {_some(row.lost)}"

    def lines(self) -> list[str]:
        """The table as text; nothing where nothing was tried."""
        return table(self.rows) if self.rows else []


def table(rows: Iterable[Row]) -> list[str]:
    """Lines of a table with its totals."""
    cells = [(row.what, str(row.tried), str(len(row.got_in)), str(len(row.lost)), row.note) for row in rows]
    sums = [sum(int(row[column]) for row in cells) for column in (1, 2, 3)]
    cells = [("what", "tried", "got in", "lost", ""), *cells, ("all", *(str(number) for number in sums), "")]
    width = max(len(row[0]) for row in cells)
    return [
        f"{what:<{width}}  {tried:>7}  {got_in:>6}  {lost:>5}  {note}".rstrip()
        for what, tried, got_in, lost, note in cells
    ]


def _some(values: Sequence[str]) -> str:
    return "; ".join(values[:10]) + ("; …" if len(values) > 10 else "")
