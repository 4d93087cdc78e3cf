"""Loads a project's source data: from the mirror folder, the cache, the public URL, or the project's seeded sample."""

from __future__ import annotations

import csv
import hashlib
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import narwhals as nw
import polars as pl

from phaseflow import discovery, kinds
from phaseflow.contract import Column, File, Project, Schema
from phaseflow.errors import DataError, suggestion
from phaseflow.log import logger
from phaseflow.settings import Settings
from phaseflow.store import Store
from phaseflow.toolkit import holdout
from phaseflow.toolkit.pseudonyms import pseudonymised

MAX_DOWNLOAD_BYTES: Final = 2 << 30
"""Maximum size of a download in bytes."""
ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The source data before the transform."""

    frame: pl.DataFrame
    """Columns as in the file; the cells of a CSV file are text."""
    origin: str
    """One of mirror, cache, public and sample."""
    sha256: str
    """SHA-256 of the file; for several files, SHA-256 of their digests, one per line."""


def load(project: Project, settings: Settings, store: Store) -> Loaded:
    """Find and read the source, and log its origin.

    Raises DataError if the file can't be read, has too few rows, or the mirror's file has another checksum.
    """
    contents, origin = _find(project, settings, store)
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    size = sum(map(len, contents))
    logger.info("source of %s: %s, %s bytes, sha256 %s", project.name, origin, f"{size:,}", digest[:16])
    frame = discovery.load(project.source.read)(*contents) if project.source.read else read_csv(contents[0])
    if frame.height < project.source.minimum_rows:
        raise DataError(
            f"The {origin} of {project.name} holds {frame.height} rows; allowed: {project.source.minimum_rows} or more",
            fix="Provide the whole file, or lower Source.minimum_rows",
        )
    return Loaded(frame=frame, origin=origin, sha256=digest)


def _find(project: Project, settings: Settings, store: Store) -> tuple[list[bytes], str]:
    """The contents of all files and their origin, the first one that has all of them."""
    source = project.source
    if settings.data_mirror:
        paths = [settings.data_mirror / file.mirror for file in source.files if file.mirror]
        if len(paths) == len(source.files) and all(path.is_file() for path in paths):
            return [
                _checked(path, file, project.name) for path, file in zip(paths, source.files, strict=True)
            ], "mirror"
        missing = ", ".join(path.name for path in paths if not path.is_file())
        if missing:
            logger.info("no %s in the mirror %s", missing, settings.data_mirror)
    if all(file.sha256 for file in source.files):
        keys = [f"sources/{project.name}/{file.sha256}" for file in source.files]
        if all(store.exists(key) for key in keys):
            return [store.read(key) for key in keys], "cache"
        if not settings.offline:
            try:
                contents = [_download(file.url, file.sha256) for file in source.files]
            except DataError as error:
                logger.warning("%s", error)
            else:
                for key, content in zip(keys, contents, strict=True):
                    store.write(key, content)
                return contents, "public"
    generated = discovery.load(source.sample)(project.seed)
    return [generated] if isinstance(generated, bytes) else list(generated), "sample"


def _checked(path: Path, file: File, project: str) -> bytes:
    """The content of the mirror's file; raises DataError if it has another checksum than the source declares."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if file.sha256 and digest not in {file.sha256, *file.mirror_sha256}:
        raise DataError(
            f"{path} has SHA-256 {digest}; the source of {project} says {file.sha256}",
            fix="Put the file with that checksum there; if this one is right, name its checksum in Source.mirror_sha256 of the project",
        )
    return content


def _download(url: str, sha256: str) -> bytes:
    import httpx  # noqa: PLC0415  # only downloads need it

    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(2.0**attempt)  # exponential backoff between attempts
        try:
            with httpx.stream("GET", url, timeout=10, follow_redirects=True) as response:
                response.raise_for_status()
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > MAX_DOWNLOAD_BYTES:
                        raise DataError(
                            f"{url} is larger than {MAX_DOWNLOAD_BYTES:,} bytes", fix="Put the file into the mirror"
                        )
        except httpx.HTTPError as error:
            problem = f"{type(error).__name__}: {error}"
            continue
        digest = hashlib.sha256(content).hexdigest()
        if digest != sha256:
            raise DataError(
                f"{url} has SHA-256 {digest}; Source.sha256 is {sha256}",
                fix="Check what changed, then correct the checksum",
            )
        return bytes(content)
    raise DataError(
        f"{url} can't be downloaded ({problem})", fix="Put the file into the folder PHASEFLOW_DATA_MIRROR names"
    )


def read_csv(content: bytes, separator: str = ",") -> pl.DataFrame:
    """A strict CSV file (RFC 4180) as text columns; empty cells are null.

    Raises DataError if the file is empty, is not UTF-8, or has a line with too few or too many cells (a truncated
    file).
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
    names = [name or f"column_{index}" for index, name in enumerate(header)]
    columns = zip(names, zip(*cells, strict=True), strict=True)
    return pl.DataFrame({name: pl.Series(values, dtype=pl.String).replace("", None) for name, values in columns})


def transformed(raw: pl.DataFrame, project: Project) -> pl.DataFrame:
    """The schema's columns of raw rows [N], before typing, and `_group` if `Project.group` is not a feature.

    Raises DataError if the source lacks a column that `transform` needs, or the result lacks a column of the schema.
    """
    function = discovery.load(project.transform)
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
    """`_group` from the column `Project.group` of the transformed rows, else of the raw rows."""
    if project.group in frame.columns:
        return holdout.hash_groups(frame, project)
    if project.group not in raw.columns:
        raise DataError(
            f"Neither the source of {project.name} nor {project.transform} has the column {project.group!r} of Project.group; "
            f"found: {', '.join(raw.columns)}",
            fix=suggestion(project.group, raw.columns) or "Name one of them",
        )
    if raw.height != frame.height:
        raise DataError(
            f"{project.transform} turns {raw.height} rows into {frame.height}, so the column {project.group!r} of "
            "Project.group no longer matches them",
            fix=f"Return the column {project.group!r} from it",
        )
    return holdout.hash_groups(raw, project)


def typed(column: Column) -> pl.Expr:
    """The column with the dtype of its kind on disk; values that can't be converted are null."""
    cells: pl.Expr = kinds.of(column).conform(pl.col(column.name), column)
    return cells.alias(column.name)


def dtype(column: Column) -> type[pl.DataType]:
    """The Polars dtype of a column on disk. An image is its pixels, one byte per value, row by row."""
    return getattr(pl, kinds.of(column).dtype)  # type: ignore[no-any-return]  # the name of a dtype


def conform(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """The schema's columns, typed; cells that don't fit their kind are null."""
    return frame.select([typed(column) for column in schema.columns])


def rows(loaded: Loaded, project: Project) -> pl.DataFrame:
    """Rows as clients would send them, with labels: transformed, typed, and without rows that violate the schema."""
    return _accepted(loaded, project).select([column.name for column in project.schema.columns])


def grouped_rows(loaded: Loaded, project: Project, settings: Settings) -> pl.DataFrame:
    """`rows` with `_key` and `_group`, which decide the split, computed from pseudonymised values as in the ETL.

    Raises PlatformError if the secret `personal_key` is needed and missing.
    """
    frame = _accepted(loaded, project)
    pseudonymous = pseudonymised(frame, project, settings)
    pseudonymous = pseudonymous.with_columns(holdout.row_hashes(pseudonymous, project))
    return frame.with_columns(pseudonymous["_key"], holdout.groups(pseudonymous, project))


def _accepted(loaded: Loaded, project: Project) -> pl.DataFrame:
    untyped = transformed(loaded.frame, project)
    frame = with_group(conform(untyped, project.schema), untyped)
    good = [pl.col(column.name).is_not_null() for column in project.schema.columns if not column.nullable]
    for column in project.schema.columns:
        if column.minimum is not None and kinds.of(column).has_cell_range:
            good.append((pl.col(column.name) >= column.minimum) | pl.col(column.name).is_null())
        if column.maximum is not None and kinds.of(column).has_cell_range:
            good.append((pl.col(column.name) <= column.maximum) | pl.col(column.name).is_null())
        if column.closed:
            good.append(pl.col(column.name).is_in(column.allowed) | pl.col(column.name).is_null())
    return frame.filter(pl.all_horizontal(good)) if good else frame


def with_group(rows: pl.DataFrame, untyped: pl.DataFrame) -> pl.DataFrame:
    """Typed rows [N] with the column `_group` of the untyped rows, if they have it."""
    return rows.with_columns(untyped["_group"]) if "_group" in untyped.columns else rows
