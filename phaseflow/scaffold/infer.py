"""What each column of a file holds, from its cells."""

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
    # The prediction and feedback logs' columns, those of a quarantine, and the outputs of a model.
    {"id", "time", "version", "prediction", "score", "latency_ms", "truth", "row", "rows", "reason"}
    | {"label", "probabilities", "value", "features", "target"}
)
READS: Final = 0.95
"""Share of a column's cells that must read as a number or date for the column to be one."""
FEW: Final = 50
"""Values that a category may have before its frequency decides."""
MINIMUM_ROWS: Final = 30
"""Fewer rows teach nothing."""
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
"""Tried in this order: month before day where both fit, as in most published files."""
IDENTIFIER: Final = re.compile(
    r"(^|_)(id_?|ids|idx|index|key|uuid|guid|code|instant|serial|number|num|no|nr|row_?|order|pid|sku|hash)$"
    r"|^unnamed(_\d+)?$|^column_1$"
)
ROW_NUMBER: Final = "a row number"
KEY: Final = re.compile(r"(^|_)(id_?|ids|uuid|guid)$")


@dataclass(frozen=True, slots=True)
class Reader:
    """A call of `phaseflow.toolkit.delimited` that reads cells."""

    function: str = "text"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def reading(self, source: str) -> Reading:
        """What the call returns for the file's column `source`."""
        return getattr(delimited, self.function)(source, **self.arguments)  # type: ignore[no-any-return]  # one of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a column of the file holds, and how its cells read."""

    source: str
    """Its name in the file."""
    name: str
    kind: str
    """`number`, `integer`, `boolean`, `category`, `date`, or `dropped`."""
    missing: int
    reader: Reader = Reader()
    note: str = ""

    @property
    def unit(self) -> str:
        """The unit that its cells name."""
        return str(self.reader.arguments.get("unit", ""))


def names(columns: Sequence[str]) -> list[str]:
    """Distinct snake_case names that phaseflow.checks.NAME allows, in order; reserved ones end with an underscore."""
    taken: list[str] = []
    for place, column in enumerate(columns, start=1):
        plain = unicodedata.normalize("NFKD", column.replace("ß", "ss")).encode("ascii", "ignore").decode()
        split = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])", r"\1\3_\2\4", plain)
        name = re.sub(r"[^a-z0-9]+", "_", split.lower()).strip("_") or f"column_{place}"
        name = (name if name[0].isalpha() else f"n_{name}")[:40].rstrip("_")
        name = f"{name}_" if name in RESERVED or keyword.iskeyword(name) else name
        taken.append(name if name not in taken else f"{name.rstrip('_')}_{place}")
    return taken


def decimal_mark(cells: pl.DataFrame, separator: str) -> str:
    """The decimal mark of the whole file: the one that more numbers need; a comma where only the separator speaks."""
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


def column(cells: pl.Series, name: str, decimal: str) -> Found:
    """What `cells`, text with null for missing, hold as a feature."""
    known = cells.drop_nulls()
    distinct = known.n_unique()
    found = Found(source=cells.name, name=name, kind="dropped", missing=cells.null_count())
    if distinct == 0:
        return replace(found, note="empty")
    if distinct == 1 and found.missing < max(2, len(cells) // 100):
        return replace(found, note=f"always {_short(known[0])}")
    if distinct <= 4:
        words = set(known.unique().str.to_lowercase())
        if len(words) == 2 and words & set(delimited.TRUE) and words & set(delimited.FALSE):
            return replace(found, kind="boolean", reader=Reader("boolean"))
    return _date(found, known) or number(found, known, decimal) or _category(found, known)


def number(found: Found, known: pl.Series, decimal: str) -> Found | None:  # noqa: PLR0911  # one for each way to refuse
    """`found` as numbers; dropped where they are row numbers or identifiers; None where they are no numbers."""
    values = known.unique(maintain_order=True).head(5000)
    if values.str.contains(r"^0\d+$").sum() > 0.01 * len(values):
        return None  # Codes: a leading zero says that nobody counts with them.
    reader = number_reader(values, decimal)
    if reader is None:
        return None
    parsed = parse(known, reader).drop_nulls()
    if len(parsed) < (1 - delimited.TOLERANCE) * len(known) and "missing" not in reader.arguments:
        return None
    largest, mark = float(parsed.abs().max() or 0), reader.arguments.get("decimal", ".")  # type: ignore[arg-type]  # numbers
    integers = Reader("integer", reader.arguments)
    whole = not known.str.contains(mark, literal=True).any() and largest < 2**53
    whole = whole and parse(known, integers).count() == len(parsed)
    found = replace(
        found,
        kind="integer" if whole else "number",
        reader=integers if whole else reader,
        missing=found.missing + len(known) - len(parsed),
        note=f"in {reader.arguments['unit']}" if "unit" in reader.arguments else "",
    )
    if largest > 1e30:
        return replace(found, kind="dropped", note="beyond what 32-bit floats hold")
    if parsed.n_unique() == 1 and found.missing == 0:
        return replace(found, kind="dropped", note=f"always {_short(known[0])}")
    if whole and (refused := _identifier(found.name, parsed, found.missing)):
        return replace(found, kind="dropped", note=refused)
    return found


def _identifier(name: str, values: pl.Series, missing: int) -> str:
    """Why whole numbers identify rows rather than measure them, else the empty string."""
    distinct = values.n_unique()
    if distinct == len(values) >= MINIMUM_ROWS and missing == 0:
        span = int(values.max()) - int(values.min()) + 1  # type: ignore[arg-type]  # numbers
        if span == len(values) and not re.search(r"year|yr|time|day|date|month|week", name):
            return ROW_NUMBER
        if IDENTIFIER.search(name):
            return "an identifier: differs in every row"
    return f"an identifier of {distinct} things" if KEY.search(name) and distinct > 2 * FEW else ""


def number_reader(values: pl.Series, decimal: str) -> Reader | None:
    """How `values`, distinct cells, read as numbers: the decimal mark, a unit, a word or two for missing; else None."""
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


def _date(found: Found, known: pl.Series) -> Found | None:
    values = known.unique(maintain_order=True)
    first = values.head(30)
    if first.str.contains(r"^\d{1,2}:\d{2}(:\d{2})?( ?[AaPp][Mm])?$").mean() >= READS:  # type: ignore[operator]  # not empty
        kind, function = "number", "clock"
    elif first.str.contains(r"^(18|19|20|21)\d{6}(T\d{6})?$|^\S+[-/. ]\S+[-/. ,].*\d").mean() >= READS:  # type: ignore[operator]
        kind, function = "date", "date"
    else:
        return None
    readers = [Reader(function, {"pattern": pattern}) for pattern in (CLOCKS if function == "clock" else DATES)]
    likely = [reader for reader in readers if _reads(first, reader) >= READS]
    rates = {reader.arguments["pattern"]: _reads(values.head(5000), reader) for reader in likely}
    if not rates or max(rates.values()) < READS:
        return None
    pattern = max(rates, key=lambda pattern: rates[pattern])
    reader = Reader(function, {"pattern": pattern})
    missing = int(parse(known, reader).null_count())
    if missing > delimited.TOLERANCE * len(known):
        return None
    twin = pattern.replace("%m", "%_").replace("%d", "%m").replace("%_", "%d")
    note = "day or month first: both fit" if twin != pattern and rates.get(twin) == rates[pattern] else ""
    return replace(
        found,
        kind=kind,
        reader=reader,
        missing=found.missing + missing,
        note=note or ("hours" if kind == "number" else pattern),
    )


def _category(found: Found, known: pl.Series) -> Found:
    distinct, rows = known.n_unique(), len(known)
    lengths, words = float(known.str.len_chars().mean()), float(known.str.split(" ").list.len().mean())  # type: ignore[arg-type]
    if distinct > 20 and (lengths > 60 or words > 6):
        return replace(found, note="free text")
    if distinct > max(rows / 2, 10):
        return replace(
            found, note=f"{'free text' if words >= 3 else 'an identifier'}: {distinct} values in {rows} rows"
        )
    if distinct > FEW:
        counts = known.value_counts()["count"]
        often = counts.filter(counts >= max(5, rows // 200))
        if often.sum() < rows / 2:
            return replace(found, note=f"{distinct} values, most of them rare")
        return replace(found, kind="category", note=f"{distinct} values, {len(often)} of them frequent")
    return replace(found, kind="category", note=f"{distinct} values")


def parse(cells: pl.Series, reader: Reader) -> pl.Series:
    """`cells` read; null where one does not read."""
    parsed = cells.to_frame("cell").select(reader.reading("cell").parse(pl.col("cell"))).to_series()
    if reader.function == "date":  # `%Y` also takes the year 19.
        year = parsed.dt.year()
        return parsed.to_frame("cell").select(pl.when(year.is_between(1700, 2300)).then("cell")).to_series()
    return parsed


def _reads(cells: pl.Series, reader: Reader) -> float:
    """Share of `cells` that read."""
    return 1 - parse(cells, reader).null_count() / len(cells)


def _short(value: str) -> str:
    return repr(value if len(value) <= 24 else f"{value[:23]}…")
