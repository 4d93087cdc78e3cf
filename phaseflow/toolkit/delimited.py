"""Reading real-world delimited text: any separator and encoding, ragged lines, and cells as people type them.

A project declares which columns of its file it uses and how to parse them, such as
`{"price": number("Price", unit="€")}`; `read` then returns a typed frame. A cell that can't be parsed becomes missing,
and a column with many such cells is an error.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import narwhals as nw
import polars as pl

from phaseflow.errors import DataError, suggestion
from phaseflow.toolkit.compressed import decompressed

MISSING: Final = (
    *(
        "",
        "na",
        "n/a",
        "#n/a",
        "n.a.",
        "nan",
        "null",
        "(null)",
        "none",
        "nil",
        "nat",
        "<na>",
        "\\n",
        "#null!",
        "#div/0!",
    ),
    *("?", "-", "--", "---", ".", "missing", "not available"),
)
"""Cells that mean a missing value, in lower case and without surrounding blanks."""
TRUE: Final = ("true", "yes", "y", "t", "on")
FALSE: Final = ("false", "no", "n", "f", "off")
TOLERANCE: Final = 0.1
"""Maximum share of a column's cells that can't be parsed; they count as missing."""
BLANKS: Final = " \t\r\n\u00a0\u202f\u2007\ufeff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The format of a delimited file."""

    encoding: str = "utf-8"
    separator: str = ","
    quoted: bool = True
    """Whether `"` encloses fields that contain separators or line breaks."""
    skip: int = 0
    """Lines before the header."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A column of a file and the parser of its text cells, which gives null for cells it can't parse."""

    source: str
    parse: Callable[[pl.Expr], pl.Expr]


def text(source: str) -> Reading:
    """Unchanged cells, String."""
    return Reading(source, lambda cell: cell)


def number(source: str, decimal: str = ".", unit: str = "", missing: tuple[str, ...] = ()) -> Reading:
    """Cells such as `1,234.5`, `1.234,5` (decimal ","), `$12` and `12%` (with that unit), `(3)` for -3; Float64."""
    return Reading(source, lambda cell: _digits(_without(cell, missing), decimal, unit).cast(pl.Float64, strict=False))


def integer(source: str, decimal: str = ".", unit: str = "", missing: tuple[str, ...] = ()) -> Reading:
    """Whole numbers in the notation of `number`; Int64."""

    def parse(cell: pl.Expr) -> pl.Expr:
        digits = _digits(_without(cell, missing), decimal, unit).str.replace(r"\.0*$", "")
        return digits.cast(pl.Int64, strict=False)

    return Reading(source, parse)


def boolean(source: str) -> Reading:
    """Cells listed in `TRUE` and `FALSE`, case-insensitive; Boolean."""
    words = dict.fromkeys(TRUE, True) | dict.fromkeys(FALSE, False)
    return Reading(
        source, lambda cell: cell.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)
    )


def date(source: str, pattern: str) -> Reading:
    """Dates and times in chrono's notation (like strftime); Datetime without time zone, in UTC if `pattern` has %z."""

    def parse(cell: pl.Expr) -> pl.Expr:
        if "%z" in pattern:
            moment = cell.str.replace("Z$", "+00:00").str.to_datetime(pattern, strict=False, time_unit="us")
            return moment.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        if "%H" in pattern or "%I" in pattern:
            return cell.str.to_datetime(pattern, strict=False, time_unit="us")
        return cell.str.to_date(pattern, strict=False).cast(pl.Datetime("us"))

    return Reading(source, parse)


def clock(source: str, pattern: str) -> Reading:
    """Times of day in the notation of `date`, as hours: `13:30` is 13.5."""
    return Reading(source, lambda cell: cell.str.to_time(pattern, strict=False).cast(pl.Int64) / 3_600_000_000_000)


def days(column: str) -> nw.Expr:
    """Whole days from 1970-01-01 to a date column."""
    return nw.col(column).dt.timestamp("ms") // 86_400_000


def month(column: str) -> nw.Expr:
    """Month of a date column, 1 to 12."""
    return nw.col(column).dt.month()


def weekday(column: str) -> nw.Expr:
    """Day of the week of a date column, 1 (Monday) to 7."""
    return nw.col(column).dt.weekday()


def hour(column: str) -> nw.Expr:
    """Hour of a date column, 0 to 23."""
    return nw.col(column).dt.hour()


def table(content: bytes, dialect: Dialect) -> pl.DataFrame:
    """Every cell as text without surrounding blanks; missing cells (`MISSING`) are null, and empty lines are skipped.

    A column without a name is called `column_<position>`; a duplicate name gets `_<position>` appended. Short lines are
    filled with missing cells. If the longest line has one cell more than the header, the extra column holds row names
    (first column) or comes from a separator at the end of the lines (last column).
    Raises DataError if the file is empty, is not text in this encoding, or unpacks to too many bytes.
    """
    try:
        lines = io.StringIO(decompressed(content).decode(dialect.encoding), newline="")
    except UnicodeDecodeError as error:
        raise DataError(f"The file is not text in {dialect.encoding}: {error}", fix="Save it as UTF-8") from error
    for _ in range(dialect.skip):
        next(lines, "")
    csv.field_size_limit(1 << 30)
    reader = csv.reader(
        lines, delimiter=dialect.separator, quoting=csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE
    )
    rows = [row for row in reader if any(row)]
    if not rows:
        raise DataError("The file holds no line of text", fix="Provide a CSV file with a header and rows")
    header, *cells = rows
    width = max((len(row) for row in cells), default=len(header))
    if width == len(header) + 1:
        named_rows = any(len(row) == width and row[-1].strip() for row in cells)
        header = ["", *header] if named_rows else [*header, ""]
    if width > len(header):
        number, count = next((number, len(row)) for number, row in enumerate(cells, start=1) if len(row) > len(header))
        raise DataError(
            f"Row {number} has {count} cells, and the header has {len(header)}",
            fix="Quote the cells that hold the separator",
        )
    full = (row + [""] * (len(header) - len(row)) for row in cells)
    columns = zip(*full, strict=True) if cells else [()] * len(header)
    frame = pl.DataFrame(
        [pl.Series(name, column, dtype=pl.String) for name, column in zip(_names(header), columns, strict=True)]
    )
    stripped = pl.all().str.strip_chars(BLANKS)
    return frame.select(pl.when(~stripped.str.to_lowercase().is_in(MISSING)).then(stripped).name.keep())


def read(content: bytes, columns: Mapping[str, Reading], dialect: Dialect) -> pl.DataFrame:
    """The columns of the file that `columns` declares, parsed; other columns are dropped.

    Raises DataError if a column is missing or more than `TOLERANCE` of its cells can't be parsed.
    """
    cells = table(content, dialect)
    typed = []
    for name, reading in columns.items():
        if reading.source not in cells.columns:
            raise DataError(
                f"The file has no column {reading.source!r}; found: {', '.join(cells.columns)}",
                fix=suggestion(reading.source, cells.columns) or "Correct the file's header",
            )
        raw = cells[reading.source]
        typed.append(cells.select(reading.parse(pl.col(reading.source)).alias(name)).to_series())
        unreadable = raw.filter(raw.is_not_null() & typed[-1].is_null())
        if len(unreadable) > TOLERANCE * raw.count():
            raise DataError(
                f"Column {reading.source!r}: {len(unreadable)} of {raw.count()} cells do not read as declared, "
                f"the first is {unreadable[0]!r}",
                fix="Correct the file, or how the project reads that column",
            )
    return pl.DataFrame(typed)


def _names(header: list[str]) -> list[str]:
    names: list[str] = []
    for position, cell in enumerate(header, start=1):
        name = cell.strip(BLANKS) or f"column_{position}"
        names.append(name if name not in names else f"{name}_{position}")
    return names


def _without(cell: pl.Expr, missing: tuple[str, ...]) -> pl.Expr:
    return pl.when(~cell.is_in(missing)).then(cell) if missing else cell


def _digits(cell: pl.Expr, decimal: str, unit: str) -> pl.Expr:
    """Numbers in Python's notation; cells that are not numbers are null."""
    group = "," if decimal == "." else "."
    bare = cell.str.replace_all(r"[\s\u00a0\u202f'\u2019]", "").str.replace("\u2212", "-")
    if unit:
        bare = bare.str.replace(unit.replace(" ", ""), "", literal=True)
    bare = bare.str.replace(r"^\((.+)\)$", "-${1}")
    grouped = bare.str.contains(rf"^[+-]?\d{{1,3}}(\{group}\d{{2,3}})*\{group}\d{{3}}(\{decimal}\d*)?$")
    plain = bare.str.contains(rf"^[+-]?(\d+\{decimal}?\d*|\{decimal}\d+)([eE][+-]?\d+)?$")
    ungrouped = pl.when(grouped).then(bare.str.replace_all(group, "", literal=True)).when(plain).then(bare)
    return ungrouped.str.replace(decimal, ".", literal=True)
