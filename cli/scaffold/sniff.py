"""Detect the dialect of a CSV file: encoding, separator, quoting and lines before the header."""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from typing import Final

from phaseflow.errors import DataError
from phaseflow.toolkit.compressed import decompressed
from phaseflow.toolkit.delimited import Dialect

SEPARATORS: Final = (",", ";", "\t", "|")
BINARY: Final = {
    b"PK\x03\x04": "an Excel workbook or a zip",
    b"PAR1": "Parquet",
    b"%PDF": "a PDF",
    b"\xd0\xcf": "an Excel 97 workbook",
}
LINES: Final = 200


def sniff(content: bytes) -> Dialect:
    """Detect the dialect of a file, which may be gzipped.

    Raises DataError if the file is empty or not text.
    """
    for magic, what in BINARY.items():
        if content.startswith(magic):
            raise DataError(f"The file is {what}", fix="Save it as CSV")
    content = decompressed(content)
    if not content.strip():
        raise DataError("The file is empty", fix="Give a CSV with a header and rows")
    encoding = _encoding(content)
    text = content.decode(encoding)
    if "\0" in text[:10_000]:
        raise DataError("The file holds binary data", fix="Save it as CSV in UTF-8")
    skip = _preamble(text)
    start = "".join(itertools.islice(io.StringIO(text, newline=""), skip, None))
    if (
        skip
        and (separator_hint := text.lower().removeprefix("sep=")[:1]) in SEPARATORS
        and text.lower().startswith("sep=")
    ):
        return Dialect(encoding=encoding, separator=separator_hint, skip=skip)
    separator, quoted = max(
        itertools.product(SEPARATORS, (True, False)), key=lambda choice: _evenness(_shape(start, *choice))
    )
    shape = _shape(start, separator, quoted)
    titles = next((index for index, width in enumerate(shape) if width == _usual(shape)), 0)
    return Dialect(encoding=encoding, separator=separator, quoted=quoted, skip=skip + (titles if shape[0] == 1 else 0))


def _encoding(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    for encoding in ("utf-8-sig" if content.startswith(b"\xef\xbb\xbf") else "utf-8", "cp1252"):
        try:
            content.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    return "latin-1"


def _preamble(text: str) -> int:
    """Number of lines before the header that are comments, blank lines or Excel's `sep=;`."""
    lines = io.StringIO(text, newline="")
    return sum(
        1
        for _ in itertools.takewhile(
            lambda line: not line.strip() or line.startswith("#") or line.lower().startswith("sep="), lines
        )
    )


def _shape(text: str, separator: str, quoted: bool) -> list[int]:
    """Number of cells in each of the first rows; 0 for blank rows."""
    csv.field_size_limit(1 << 30)
    reader = csv.reader(
        io.StringIO(text[:1_000_000], newline=""),
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )
    return [len(row) for row in itertools.islice(reader, LINES)]


def _usual(shape: list[int]) -> int:
    """The most frequent number of cells per row; the larger in case of a tie."""
    counts = Counter(width for width in shape if width)
    return max(counts, key=lambda width: (counts[width], width))


def _evenness(shape: list[int]) -> tuple[bool, int, float, int]:
    """Sort key of a dialect: several cells per row, rows as wide as the header or one wider, and wide rows."""
    usual = _usual(shape)
    header, *rows = [width for width in shape if width]
    return usual > 1, (header == usual) + (header >= usual - 1), round(rows.count(usual) / max(len(rows), 1), 1), usual
