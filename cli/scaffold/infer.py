"""Infer the kind of each column of a file from its cells."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import polars as pl

from phaseflow.toolkit import delimited
from phaseflow.toolkit.delimited import Reading

RESERVED: Final = frozenset(
    # Columns of the prediction log, the feedback log and the quarantine, and names of model outputs.
    {"id", "time", "version", "prediction", "score", "latency_ms", "label", "row", "rows", "reason"}
    | {"label", "probabilities", "value", "features", "target"}
)
READS: Final = 0.95
"""Minimum share of cells that parse as numbers or dates, for the column to have that kind."""
FEW: Final = 50
"""Maximum number of values of a category, regardless of their frequency."""
MINIMUM_ROWS: Final = 30
"""Minimum number of rows for training."""
CURRENCIES: Final = r"[$€£¥₹]|(?i:usd|eur|gbp|chf|inr|us\$|rs\.?)"
UNIT: Final = (
    rf"^(?:({CURRENCIES})\s*)?[+-]?[\d.,]*\d[\d.,]*\s*((?:{CURRENCIES})|%|°\w?|[mglsh]|[A-Za-z][A-Za-z/²³. ]{{1,14}})?$"
)
_DAYS: Final = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%m-%d-%Y", "%d-%m-%Y"),
    *("%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y"),
    *("%b %d %Y", "%A, %B %d, %Y"),
)
CLOCKS: Final = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p")
_MOMENTS: Final = (
    *("", *(f" {clock}" for clock in CLOCKS), " %H:%M:%S%.f", " %H:%M:%S UTC", " %H:%M:%S%z", " %H:%M:%S%.f%z"),
    *("T%H:%M:%S", "T%H:%M", "T%H:%M:%S%.f", "T%H:%M:%S%z", "T%H:%M:%S%.f%z", "T%H%M%S"),
)
DATES: Final = tuple(day + moment for day in _DAYS for moment in _MOMENTS)
"""Patterns in order of preference: if both are possible, month before day, as in most published files."""
IDENTIFIER: Final = re.compile(
    r"(^|_)(id_?|ids|idx|index|key|uuid|guid|code|instant|serial|number|num|no|nr|row_?|order|pid|sku|hash)$"
    r"|^unnamed(_\d+)?$|^column_1$"
)
ROW_NUMBER: Final = "a row number"
KEY: Final = re.compile(r"(^|_)(id_?|ids|uuid|guid)$")


@dataclass(frozen=True, slots=True)
class Reader:
    """A function of `phaseflow.toolkit.delimited` that parses cells, with its arguments."""

    function: str = "text"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def reading(self, source: str) -> Reading:
        """Call the function for the file's column `source`."""
        return getattr(delimited, self.function)(source, **self.arguments)  # type: ignore[no-any-return]  # a function of `delimited`


@dataclass(frozen=True, slots=True, kw_only=True)
class InferredColumn:
    """The inferred kind of a column, and the reader of its cells."""

    source: str
    """Name of the column in the file."""
    name: str
    kind: str
    """`number`, `integer`, `boolean`, `category`, `date`, or `dropped`."""
    missing: int
    reader: Reader = Reader()
    note: str = ""

    @property
    def unit(self) -> str:
        """The unit in the cells; empty if there is none."""
        return str(self.reader.arguments.get("unit", ""))


def names(columns: Sequence[str]) -> list[str]:
    """Distinct snake_case names that match phaseflow.checks.NAME. Reserved names get a trailing underscore."""
    unique_names: list[str] = []
    for position, column in enumerate(columns, start=1):
        plain = unicodedata.normalize("NFKD", column.replace("ß", "ss")).encode("ascii", "ignore").decode()
        split = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])", r"\1\3_\2\4", plain)
        name = re.sub(r"[^a-z0-9]+", "_", split.lower()).strip("_") or f"column_{position}"
        name = (name if name[0].isalpha() else f"n_{name}")[:40].rstrip("_")
        name = f"{name}_" if name in RESERVED or keyword.iskeyword(name) else name
        unique_names.append(name if name not in unique_names else f"{name.rstrip('_')}_{position}")
    return unique_names


def decimal_mark(cells: pl.DataFrame, separator: str) -> str:
    """The decimal mark of the whole file: the one that more cells need.

    If neither is more frequent, it is a comma in files with semicolons as separators, else a point.
    """
    votes = {
        mark: sum(int(cells.head(5000).get_column(column).str.contains(pattern).sum() or 0) for column in cells.columns)
        for mark, pattern in (
            (".", r"^[+-]?[\d,]*\.(\d{1,2}|\d{4,})\D{0,4}$"),
            (",", r"^[+-]?[\d.]*,(\d{1,2}|\d{4,})\D{0,4}$"),
        )
    }
    if votes["."] == votes[","]:
        return "," if separator == ";" else "."
    return max(votes, key=lambda mark: votes[mark])


def column(cells: pl.Series, name: str, decimal: str) -> InferredColumn:
    """Infer the kind of a feature from its cells: strings, with null for missing values."""
    non_null = cells.drop_nulls()
    distinct = non_null.n_unique()
    inferred = InferredColumn(source=cells.name, name=name, kind="dropped", missing=cells.null_count())
    if distinct == 0:
        return replace(inferred, note="empty")
    if distinct == 1 and inferred.missing < max(2, len(cells) // 100):
        return replace(inferred, note=f"always {_short(non_null[0])}")
    if distinct <= 4:
        words = set(non_null.unique().str.to_lowercase())
        if len(words) == 2 and words & set(delimited.TRUE) and words & set(delimited.FALSE):
            return replace(inferred, kind="boolean", reader=Reader("boolean"))
    return _date(inferred, non_null) or number(inferred, non_null, decimal) or _category(inferred, non_null)


def number(inferred: InferredColumn, non_null: pl.Series, decimal: str) -> InferredColumn | None:  # noqa: PLR0911
    """Infer a numeric column. Row numbers and identifiers are dropped. None if the cells are not numbers."""
    values = non_null.unique(maintain_order=True).head(5000)
    if values.str.contains(r"^0\d+$").sum() > 0.01 * len(values):
        return None  # Leading zeros indicate codes, not quantities.
    reader = number_reader(values, decimal)
    if reader is None:
        return None
    parsed = parse(non_null, reader).drop_nulls()
    if len(parsed) < (1 - delimited.TOLERANCE) * len(non_null) and "missing" not in reader.arguments:
        return None
    largest, mark = float(parsed.abs().max() or 0), reader.arguments.get("decimal", ".")  # type: ignore[arg-type]  # numbers
    integers = Reader("integer", reader.arguments)
    whole = not non_null.str.contains(mark, literal=True).any() and largest < 2**53
    whole = whole and parse(non_null, integers).count() == len(parsed)
    inferred = replace(
        inferred,
        kind="integer" if whole else "number",
        reader=integers if whole else reader,
        missing=inferred.missing + len(non_null) - len(parsed),
        note=f"in {reader.arguments['unit']}" if "unit" in reader.arguments else "",
    )
    if largest > 1e30:
        return replace(inferred, kind="dropped", note="beyond what 32-bit floats hold")
    if parsed.n_unique() == 1 and inferred.missing == 0:
        return replace(inferred, kind="dropped", note=f"always {_short(non_null[0])}")
    if whole and (reason := _identifier(inferred.name, parsed, inferred.missing)):
        return replace(inferred, kind="dropped", note=reason)
    return inferred


def _identifier(name: str, values: pl.Series, missing: int) -> str:
    """The reason if whole numbers are identifiers, else the empty string."""
    distinct = values.n_unique()
    if distinct == len(values) >= MINIMUM_ROWS and missing == 0:
        span = int(values.max()) - int(values.min()) + 1  # type: ignore[arg-type]  # numbers
        if span == len(values) and not re.search(r"year|yr|time|day|date|month|week", name):
            return ROW_NUMBER
        if IDENTIFIER.search(name):
            return "an identifier: differs in every row"
    return f"an identifier with {distinct} values" if KEY.search(name) and distinct > 2 * FEW else ""


def number_reader(values: pl.Series, decimal: str) -> Reader | None:
    """Infer a reader of numbers from distinct cells: decimal mark, unit, and up to two words for missing values.

    None if the cells are not numbers.
    """
    for mark in (decimal, "," if decimal == "." else "."):
        arguments: dict[str, Any] = {} if mark == "." else {"decimal": mark}
        plain = Reader("number", arguments)
        wrong = values.filter(parse(values, plain).is_null())
        if 0 < len(wrong) <= 2 and len(values) >= 10 and not wrong.str.contains(r"\d").any():
            return Reader("number", arguments | {"missing": tuple(wrong)})
        if len(wrong) <= (1 - READS) * len(values):
            return plain
        units = values.str.extract_groups(UNIT).struct.unnest().fill_null("")
        pairs = units.select(pl.concat_str("1", "2").str.strip_chars()).to_series().value_counts(sort=True)
        for unit in pairs.to_series().head(2):
            if unit and _reads(values, reader := Reader("number", arguments | {"unit": unit})) >= READS:
                return reader
    return None


def _date(inferred: InferredColumn, non_null: pl.Series) -> InferredColumn | None:
    values = non_null.unique(maintain_order=True)
    first = values.head(30)
    if first.str.contains(r"^\d{1,2}:\d{2}(:\d{2})?( ?[AaPp][Mm])?$").mean() >= READS:  # type: ignore[operator]  # not empty
        kind, function = "number", "clock"
    elif first.str.contains(r"^(18|19|20|21)\d{6}(T\d{6})?$|^\S+[-/. ]\S+[-/. ,].*\d").mean() >= READS:  # type: ignore[operator]
        kind, function = "date", "date"
    else:
        return None
    readers = [Reader(function, {"pattern": pattern}) for pattern in (CLOCKS if function == "clock" else DATES)]
    matching = [reader for reader in readers if _reads(first, reader) >= READS]
    rates = {reader.arguments["pattern"]: _reads(values.head(5000), reader) for reader in matching}
    if not rates or max(rates.values()) < READS:
        return None
    pattern = max(rates, key=lambda pattern: rates[pattern])
    reader = Reader(function, {"pattern": pattern})
    missing = int(parse(non_null, reader).null_count())
    if missing > delimited.TOLERANCE * len(non_null):
        return None
    twin = pattern.replace("%m", "%_").replace("%d", "%m").replace("%_", "%d")
    note = "day or month first: both are possible" if twin != pattern and rates.get(twin) == rates[pattern] else ""
    return replace(
        inferred,
        kind=kind,
        reader=reader,
        missing=inferred.missing + missing,
        note=note or ("hours" if kind == "number" else pattern),
    )


def _category(inferred: InferredColumn, non_null: pl.Series) -> InferredColumn:
    distinct, rows = non_null.n_unique(), len(non_null)
    lengths, words = float(non_null.str.len_chars().mean()), float(non_null.str.split(" ").list.len().mean())  # type: ignore[arg-type]
    if distinct > 20 and (lengths > 60 or words > 6):
        return replace(inferred, note="free text")
    if distinct > max(rows / 2, 10):
        return replace(
            inferred, note=f"{'free text' if words >= 3 else 'an identifier'}: {distinct} values in {rows} rows"
        )
    if distinct > FEW:
        counts = non_null.value_counts()["count"]
        frequent = counts.filter(counts >= max(5, rows // 200))
        if frequent.sum() < rows / 2:
            return replace(inferred, note=f"{distinct} values, most of them rare")
        return replace(inferred, kind="category", note=f"{distinct} values, {len(frequent)} of them frequent")
    return replace(inferred, kind="category", note=f"{distinct} values")


def parse(cells: pl.Series, reader: Reader) -> pl.Series:
    """Parse the cells. Cells that don't parse are null."""
    parsed = cells.to_frame("cell").select(reader.reading("cell").parse(pl.col("cell"))).to_series()
    if reader.function == "date":  # `%Y` also accepts the year 19.
        year = parsed.dt.year()
        return parsed.to_frame("cell").select(pl.when(year.is_between(1700, 2300)).then("cell")).to_series()
    return parsed


def _reads(cells: pl.Series, reader: Reader) -> float:
    """Share of `cells` that parse."""
    return 1 - parse(cells, reader).null_count() / len(cells)


def _short(value: str) -> str:
    return repr(value if len(value) <= 24 else f"{value[:23]}…")
