"""A project's source data: from the mirror folder, the cache, the public address, or the project's own seeded sample."""

from __future__ import annotations

import csv
import hashlib
import io
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import narwhals as nw
import polars as pl

from phaseflow import answers, registry
from phaseflow.contract import Column, File, Project, Schema
from phaseflow.errors import DataError, suggestion
from phaseflow.settings import Settings
from phaseflow.store import Store
from phaseflow.toolkit import holdout
from phaseflow.toolkit.pseudonyms import pseudonymised

LARGEST: Final = 2 << 30
"""Bytes of a download above which it is given up."""
ATTEMPTS: Final = 3
DTYPES: Final = {"number": pl.Float64, "integer": pl.Int64, "boolean": pl.Boolean, "image": pl.Binary}
"""On disk; every other kind is text. An image is its pixels, a byte a value, row by row."""
SCALES: Final = frozenset({"number", "integer"})
TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The source as it came."""

    frame: pl.DataFrame
    """Columns as in the file; a CSV's cells are text."""
    origin: str
    """mirror, cache, public or sample."""
    sha256: str
    """Of the file; of several files that of their digests, one a line."""


def load(project: Project, settings: Settings, store: Store) -> Loaded:
    """Find and read the source, and say on stderr which one it was.

    Raises DataError when the file is found and can't be read, or the mirror's is another than the source's checksum says.
    """
    contents, origin = _find(project, settings, store)
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    size = sum(map(len, contents))
    print(f"source of {project.name}: {origin}, {size:,} bytes, sha256 {digest[:16]}", file=sys.stderr)
    frame = registry.load(project.source.read)(*contents) if project.source.read else read_csv(contents[0])
    if frame.height < project.source.minimum_rows:
        raise DataError(
            f"The {origin} of {project.name} holds {frame.height} rows; allowed: {project.source.minimum_rows} or more",
            fix="Give the whole file, or lower Source.minimum_rows",
        )
    return Loaded(frame=frame, origin=origin, sha256=digest)


def _find(project: Project, settings: Settings, store: Store) -> tuple[list[bytes], str]:
    """The contents of all files, and where they were: all of them in one place."""
    source = project.source
    if settings.data_mirror:
        named = [settings.data_mirror / file.mirror for file in source.files if file.mirror]
        if len(named) == len(source.files) and all(path.is_file() for path in named):
            return [
                _checked(path, file, project.name) for path, file in zip(named, source.files, strict=True)
            ], "mirror"
        missing = ", ".join(path.name for path in named if not path.is_file())
        if missing:
            print(f"no {missing} in the mirror {settings.data_mirror}", file=sys.stderr)
    if all(file.sha256 for file in source.files):
        keys = [f"sources/{project.name}/{file.sha256}" for file in source.files]
        if all(store.exists(key) for key in keys):
            return [store.read(key) for key in keys], "cache"
        if not settings.offline:
            try:
                contents = [_download(file.url, file.sha256) for file in source.files]
            except DataError as error:
                print(f"warning: {error}", file=sys.stderr)
            else:
                for key, content in zip(keys, contents, strict=True):
                    store.write(key, content)
                return contents, "public"
    made = registry.load(source.sample)(project.seed)
    return [made] if isinstance(made, bytes) else list(made), "sample"


def _checked(path: Path, file: File, project: str) -> bytes:
    """The mirror's file, held against its checksum where that is known."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if file.sha256 and digest not in {file.sha256, *file.mirror_sha256}:
        raise DataError(
            f"{path} has SHA-256 {digest}; the source of {project} says {file.sha256}",
            fix="Put the file with that checksum there; if this one is right, name its checksum in Source.mirror_sha256 of the project",
        )
    return content


def _download(url: str, sha256: str) -> bytes:
    import httpx  # noqa: PLC0415  # only a download needs it

    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(2.0**attempt)  # backoff between attempts, as RFC 9110 asks of a client
        try:
            with httpx.stream("GET", url, timeout=10, follow_redirects=True) as answer:
                answer.raise_for_status()
                content = bytearray()
                for chunk in answer.iter_bytes():
                    content += chunk
                    if len(content) > LARGEST:
                        raise DataError(f"{url} is larger than {LARGEST:,} bytes", fix="Put the file into the mirror")
        except httpx.HTTPError as error:
            problem = f"{type(error).__name__}: {error}"
            continue
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise DataError(
                f"{url} has SHA-256 {found}; Source.sha256 is {sha256}",
                fix="Check what changed, then correct the checksum",
            )
        return bytes(content)
    raise DataError(
        f"{url} can't be downloaded ({problem})", fix="Put the file into the folder PHASEFLOW_DATA_MIRROR names"
    )


def read_csv(content: bytes, separator: str = ",") -> pl.DataFrame:
    """A strict CSV (RFC 4180) as text columns; empty cells are null.

    Raises DataError for an empty file, one that isn't UTF-8, or a line with too few or too many cells (a truncated file).
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"The file is not UTF-8: byte {error.start} is 0x{content[error.start]:02x}", fix="Convert it to UTF-8"
        ) from error
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = next(lines, [])
        cells = [line for line in lines if line]
    except csv.Error as error:
        raise DataError(
            f"The CSV breaks off at line {lines.line_num}: {error}", fix="Get the file again: it looks truncated"
        ) from error
    if not header or not cells:
        raise DataError(f"The CSV holds {'a header and no rows' if header else 'nothing'}", fix="Get the file again")
    for number, line in enumerate(cells, start=2):
        if len(line) != len(header):
            where = "last row" if number == len(cells) + 1 else f"row {number}"
            raise DataError(
                f"The CSV's {where} has {len(line)} cells, the header {len(header)}",
                fix="Get the file again: it looks truncated" if where == "last row" else "Correct that row",
            )
    names = [name or f"column_{place}" for place, name in enumerate(header)]
    columns = zip(names, zip(*cells, strict=True), strict=True)
    return pl.DataFrame({name: pl.Series(values, dtype=pl.String).replace("", None) for name, values in columns})


def transformed(raw: pl.DataFrame, project: Project) -> pl.DataFrame:
    """The schema's columns of raw rows [N], not yet typed, and `_group` where `Project.group` is no feature.

    Raises DataError when the source lacks a column that `transform` needs, or `transform` one of the schema's.
    """
    function = registry.load(project.transform)
    try:
        frame = nw.to_native(function(nw.from_native(raw)))
    except (pl.exceptions.ColumnNotFoundError, nw.exceptions.ColumnNotFoundError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        name = first.split('"')[1] if first.count('"') >= 2 else first.strip("'")
        raise DataError(
            f"The source of {project.name} lacks a column: {first}; found: {', '.join(raw.columns)}",
            fix=suggestion(name, raw.columns) or "Correct the file's header, or `transform` in the project's data.py",
        ) from error
    missing = [column.name for column in project.schema.columns if column.name not in frame.columns]
    if missing:
        raise DataError(
            f"{project.transform} gives no {', '.join(missing)}; found: {', '.join(frame.columns)}",
            fix=suggestion(missing[0], frame.columns) or "Add it there",
        )
    rows = pl.DataFrame(frame.select([column.name for column in project.schema.columns]))
    if not project.group or project.group in project.schema.feature_names:
        return rows
    return rows.with_columns(_raw_groups(raw, pl.DataFrame(frame), project))


def _raw_groups(raw: pl.DataFrame, frame: pl.DataFrame, project: Project) -> pl.Series:
    """`_group` of a column that `transform` gives beside the schema's, else of the source's own."""
    if project.group in frame.columns:
        return holdout.hashed_groups(frame, project)
    if project.group not in raw.columns:
        raise DataError(
            f"Neither the source of {project.name} nor {project.transform} has the column {project.group!r} of Project.group; "
            f"found: {', '.join(raw.columns)}",
            fix=suggestion(project.group, raw.columns) or "Name one of them",
        )
    if raw.height != frame.height:
        raise DataError(
            f"{project.transform} makes {frame.height} rows of {raw.height}, so that nobody knows which {project.group!r} is whose",
            fix=f"Give the column {project.group!r} from it",
        )
    return holdout.hashed_groups(raw, project)


def typed(column: Column) -> pl.Expr:
    """The column as its kind is kept on disk; what can't be read so is null."""
    cell = pl.col(column.name)
    if column.kind == "boolean":
        text = cell.cast(pl.String).str.to_lowercase()
        return (
            pl.when(text.is_in(TRUE)).then(True).when(text.is_in(FALSE)).then(False).otherwise(None).alias(column.name)
        )
    if column.kind == "integer":  # "3.0" is an integer, "3.5" is not
        number = cell.cast(pl.Float64, strict=False)
        return pl.when(number == number.floor()).then(number.cast(pl.Int64, strict=False)).alias(column.name)
    if column.kind == "number":
        number = cell.cast(pl.Float64, strict=False)
        return pl.when(number.is_finite()).then(number).alias(column.name)
    if column.kind == "image":
        return pl.when(cell.bin.size() == column.size).then(cell).alias(column.name)
    if column.kind in {"boxes", "ranking", "action"}:
        return cell.cast(pl.String, strict=False).map_elements(
            lambda text: answers.canonical(text, column), return_dtype=pl.String
        )
    return cell.cast(pl.String, strict=False)


def conform(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """The schema's columns, typed; a cell that its kind can't hold is null."""
    return frame.select([typed(column) for column in schema.columns])


def rows(loaded: Loaded, project: Project) -> pl.DataFrame:
    """Rows as clients would send them, with the truth: transformed, typed, and without those that the schema refuses."""
    return _accepted(loaded, project).select([column.name for column in project.schema.columns])


def grouped_rows(loaded: Loaded, project: Project, settings: Settings) -> pl.DataFrame:
    """`rows` with `_key` and `_group`, by which the split decides, as the ETL computes them: of the hashes of personal values.

    Raises PlatformError when the secret `personal_key` is missing and needed.
    """
    frame = _accepted(loaded, project)
    kept = pseudonymised(frame, project, settings)
    kept = kept.with_columns(holdout.keys(kept, project))
    return frame.with_columns(kept["_key"], holdout.groups(kept, project))


def _accepted(loaded: Loaded, project: Project) -> pl.DataFrame:
    untyped = transformed(loaded.frame, project)
    frame = with_group(conform(untyped, project.schema), untyped)
    good = [pl.col(column.name).is_not_null() for column in project.schema.columns if not column.nullable]
    for column in project.schema.columns:
        if column.minimum is not None and column.kind in SCALES:
            good.append((pl.col(column.name) >= column.minimum) | pl.col(column.name).is_null())
        if column.maximum is not None and column.kind in SCALES:
            good.append((pl.col(column.name) <= column.maximum) | pl.col(column.name).is_null())
        if column.closed:
            good.append(pl.col(column.name).is_in(column.allowed) | pl.col(column.name).is_null())
    return frame.filter(pl.all_horizontal(good)) if good else frame


def with_group(rows: pl.DataFrame, untyped: pl.DataFrame) -> pl.DataFrame:
    """Typed rows [N] with the column `_group` of the untyped ones, where those have it."""
    return rows.with_columns(untyped["_group"]) if "_group" in untyped.columns else rows
