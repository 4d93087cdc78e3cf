"""Counts of attempts, breaches and losses in the tests of security and faults, printed at the end of the session."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One attack or fault."""

    what: str
    attempts: int
    """Number of requests, kills or other actions of the attack."""
    breaches: Sequence[str] = ()
    """Attempts with a forbidden effect or a wrong response."""
    lost: Sequence[str] = ()
    """Ids of served predictions that the log lacks or contains twice, and predictions that should not have failed."""
    note: str = ""
    """Further information, for example a measured time."""


@dataclass(slots=True)
class Tally:
    """The rows of one session, in the order of the tests."""

    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add a row; raise AssertionError if it has breaches or losses."""
        self.rows.append(row)
        assert not row.breaches, f"{row.what}: {len(row.breaches)} of {row.attempts} got in: {_some(row.breaches)}"
        assert not row.lost, f"{row.what}: {len(row.lost)} lost: {_some(row.lost)}"

    def lines(self) -> list[str]:
        """Return the lines of the table, or none if it has no rows."""
        return table(self.rows) if self.rows else []


def table(rows: Iterable[Row]) -> list[str]:
    """Return the lines of a table with totals."""
    cells = [(row.what, str(row.attempts), str(len(row.breaches)), str(len(row.lost)), row.note) for row in rows]
    sums = [sum(int(row[column]) for row in cells) for column in (1, 2, 3)]
    cells = [("what", "tried", "got in", "lost", ""), *cells, ("all", str(sums[0]), str(sums[1]), str(sums[2]), "")]
    width = max(len(row[0]) for row in cells)
    return [
        f"{what:<{width}}  {attempts:>7}  {breaches:>6}  {lost:>5}  {note}".rstrip()
        for what, attempts, breaches, lost, note in cells
    ]


def _some(values: Sequence[str]) -> str:
    return "; ".join(values[:10]) + ("; …" if len(values) > 10 else "")
