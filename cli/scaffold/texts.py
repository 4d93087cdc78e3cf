"""Generate a text classification project from a CSV file with a text column and a class column."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

import polars as pl
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from cli.scaffold import infer, new_project, plan
from cli.scaffold.code import Call, render
from cli.scaffold.new_project import NewProject
from cli.scaffold.sniff import sniff
from phaseflow.errors import DataError
from phaseflow.toolkit import delimited
from phaseflow.toolkit.delimited import Dialect

CANDIDATES: Final = {"words": {"C": 2.0}, "pairs_of_words": {"C": 4.0, "ngram_size": 2}}


def make(name: str, content: bytes, column: str, target: str, *, file: str, url: str = "") -> NewProject:
    """Generate the project `name` from the content of a CSV file. Raises DataError if the file is unsuitable."""
    dialect = sniff(content)
    cells = delimited.table(content, dialect)
    text, label_name, classes, rows = _labelled_texts(cells, column, target)
    by_source = dict(zip(cells.columns, infer.names(cells.columns), strict=True))
    feature, label = by_source[text], by_source[label_name]
    quick = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(max_iter=300))
    quality = new_project.measure_quality(
        quick, rows[text].to_numpy().astype(str), rows[label_name].to_numpy().astype(str)
    )
    title = name.replace("_", " ").capitalize()
    what = f"predicts {_plain(label_name)}, one of {len(classes)} classes, from the text in {_plain(text)}"
    stored_content = new_project.compress_if_large(content)
    stored = "data.csv.gz" if stored_content.startswith(b"\x1f\x8b") else "data.csv"
    source = {"url": url, "mirror": f"{name}/{stored}"}
    if url:
        source["sha256"] = hashlib.sha256(content).hexdigest()
    example = min(rows[text].to_list(), key=lambda value: abs(len(value) - 60))
    dropped_count = cells.height - rows.height
    notes = (f"{dropped_count} rows without a text or with a rare class are left out",) if dropped_count else ()
    files = {
        "__init__.py": f'"""{title}: {what}."""\n',
        "project.py": new_project.declaration(
            name,
            title,
            what=what,
            source=source,
            feature=Call("Column", kwargs={"name": feature, "kind": "text"}),
            target=Call("Column", kwargs={"name": label, "kind": "category", "allowed": classes}),
            candidates=CANDIDATES,
            quality=quality,
            example={feature: example},
            tags=("text",),
        ),
        "data.py": _data(stored, dialect, {feature: text, label: label_name}, label, classes),
        "model.py": MODEL,
        "drift.py": DRIFT.format(column=feature),
        f"tests/test_{name}.py": new_project.tests(name),
        "README.md": new_project.readme(
            title,
            name,
            what=what,
            source_text=f"`{_plain(file)}` ({rows.height:,} texts)",
            quality=quality,
            send=f"curl -s --json '{json.dumps({feature: 'your text'})}' http://127.0.0.1:3000/{name}/predict",
            notes=notes,
        ),
    }
    return NewProject(
        files={path: text.encode() for path, text in files.items()} | {stored: stored_content},
        target=label_name,
        classes=classes,
        rows=rows.height,
        quality=quality,
        notes=notes,
    )


def _labelled_texts(cells: pl.DataFrame, column: str, target: str) -> tuple[str, str, tuple[str, ...], pl.DataFrame]:
    """Names of the text's and the label's column, the classes, and the rows with both. Raises DataError if they are unsuitable."""
    text, label_name = plan.target_name(column, cells), plan.target_name(target, cells)
    if text == label_name:
        raise DataError(f"The column {text!r} can't be both text and target", fix="Name two columns")
    rows = cells.select(text, label_name).drop_nulls()
    classes = plan.classes_of(rows[label_name])
    rows = rows.filter(pl.col(label_name).is_in(classes))
    if rows.height < infer.MINIMUM_ROWS:
        raise DataError(
            f"The file has {rows.height} usable rows; allowed: {infer.MINIMUM_ROWS} or more", fix="Collect more rows"
        )
    if rows[text].n_unique() < rows.height / 10:
        raise DataError(
            f"The column {text!r} has {rows[text].n_unique()} different texts in {rows.height} rows",
            fix="Omit --text: the column is a category",
        )
    return text, label_name, classes, rows


def _plain(text: str) -> str:
    return " ".join(text.split())[:60].replace('"', "'").replace("\\", "/").replace("|", "/")


def _data(stored: str, dialect: Dialect, columns: dict[str, str], label: str, classes: tuple[str, ...]) -> str:
    options = {key: getattr(dialect, key) for key in ("encoding", "separator", "quoted", "skip")}
    non_default: dict[str, Any] = {key: value for key, value in options.items() if value != getattr(Dialect(), key)}
    readings = {name: Call("text", (source,)) for name, source in columns.items()}
    return f'''"""Read {stored} in this folder: one text and its class per row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from phaseflow.toolkit import delimited
from phaseflow.toolkit.delimited import Dialect, text

DIALECT = {render(Call("Dialect", kwargs=non_default), before=10)}
COLUMNS = {render(readings, before=10)}
CLASSES = {render(classes, before=10)}


def sample(seed: int) -> bytes:  # noqa: ARG001  # the sample is the whole file
    """The content of the data file."""
    return (Path(__file__).parent / "{stored}").read_bytes()


def read(content: bytes) -> pl.DataFrame:
    """The text and the class of each row, without rows that have a missing value or a rare class."""
    return delimited.read(content, COLUMNS, DIALECT).drop_nulls().filter(pl.col("{label}").is_in(CLASSES))


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """Return the columns unchanged: they match the schema."""
    return raw
'''


MODEL: Final = '''"""Two bag-of-words candidates: single words, and single words with bigrams."""

from __future__ import annotations

import polars as pl

from phaseflow import Candidate, Project
from phaseflow.toolkit import bag
from phaseflow.toolkit.model import Trained


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of the schema's columns."""
    return bag.fit(rows, project.schema, **candidate.params, seed=project.seed)
'''
DRIFT: Final = '''"""Simulated drift for `phaseflow traffic --drift`: words that are not in the training data."""

from __future__ import annotations

import re

import numpy as np
import polars as pl


def simulate(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:  # noqa: ARG001  # deterministic
    """Spell every longer word of texts [N] backwards, like a language that a model can learn only from new labels."""
    reversed_texts = [re.sub(r"\\w{{3,}}", lambda match: match[0][::-1], text) for text in rows["{column}"]]
    return rows.with_columns(pl.Series("{column}", reversed_texts, dtype=pl.String))
'''
