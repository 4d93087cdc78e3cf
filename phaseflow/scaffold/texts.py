"""A project that tells the class of a text, from a CSV with a column of texts and one of classes."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

import polars as pl
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from phaseflow.errors import DataError
from phaseflow.scaffold import infer, made, plan
from phaseflow.scaffold.code import Call, render
from phaseflow.scaffold.made import Made
from phaseflow.scaffold.sniff import sniff
from phaseflow.toolkit import delimited
from phaseflow.toolkit.delimited import Dialect

CANDIDATES: Final = {"words": {"strength": 2.0}, "pairs_of_words": {"strength": 4.0, "together": 2}}


def make(name: str, content: bytes, column: str, target: str, *, file: str, url: str = "") -> Made:
    """The project `name` of a CSV's content; raises DataError where the file or its columns do not make one."""
    dialect = sniff(content)
    cells = delimited.table(content, dialect)
    text, truth_name = plan.target_name(column, cells), plan.target_name(target, cells)
    if text == truth_name:
        raise DataError(f"The column {text!r} is text and target at once", fix="Name two columns")
    rows = cells.select(text, truth_name).drop_nulls()
    classes = plan.classes_of(rows[truth_name])
    rows = rows.filter(pl.col(truth_name).is_in(classes))
    if rows.height < infer.MINIMUM_ROWS:
        raise DataError(
            f"{rows.height} rows can be learned from; allowed: {infer.MINIMUM_ROWS} or more", fix="Collect more rows"
        )
    if rows[text].n_unique() < rows.height / 10:
        raise DataError(
            f"The column {text!r} has {rows[text].n_unique()} different texts in {rows.height} rows",
            fix="Leave --text out: it is a category",
        )
    by_source = dict(zip(cells.columns, infer.names(cells.columns), strict=True))
    feature, label = by_source[text], by_source[truth_name]
    quick = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(max_iter=300))
    quality = made.judged(quick, rows[text].to_numpy().astype(str), rows[truth_name].to_numpy().astype(str))
    title = name.replace("_", " ").capitalize()
    what = f"tells {_plain(truth_name)}, one of {len(classes)} classes, from {_plain(text)}, a text"
    packed = made.packed(content)
    stored = "data.csv.gz" if packed.startswith(b"\x1f\x8b") else "data.csv"
    source = {"url": url, "mirror": f"{name}/{stored}"}
    if url:
        source["sha256"] = hashlib.sha256(content).hexdigest()
    example = min(rows[text].to_list(), key=lambda one: abs(len(one) - 60))
    lost = cells.height - rows.height
    notes = (f"{lost} rows without a text, or of a class too rare, are left out",) if lost else ()
    files = {
        "__init__.py": f'"""{title}: {what}."""\n',
        "project.py": made.declaration(
            name,
            title,
            what=what,
            task="text",
            source=source,
            feature=Call("Column", by_name={"name": feature, "kind": "text"}),
            target=Call("Column", by_name={"name": label, "kind": "category", "allowed": classes}),
            candidates=CANDIDATES,
            quality=quality,
            example={feature: example},
            tags=("text",),
        ),
        "data.py": _data(stored, dialect, {feature: text, label: truth_name}, label, classes),
        "model.py": MODEL,
        "world.py": WORLD.format(column=feature),
        f"tests/test_{name}.py": made.tests(name),
        "README.md": made.readme(
            title,
            name,
            what=what,
            made_of=f"`{_plain(file)}` ({rows.height:,} texts)",
            quality=quality,
            send=f"curl -s --json '{json.dumps({feature: 'a text of your own'})}' http://127.0.0.1:3000/{name}/predict",
            notes=notes,
        ),
    }
    return Made(
        files={path: text.encode() for path, text in files.items()} | {stored: packed},
        task="text",
        target=truth_name,
        classes=classes,
        rows=rows.height,
        quality=quality,
        notes=notes,
    )


def _plain(text: str) -> str:
    return " ".join(text.split())[:60].replace('"', "'").replace("\\", "/").replace("|", "/")


def _data(stored: str, dialect: Dialect, columns: dict[str, str], label: str, classes: tuple[str, ...]) -> str:
    given = {key: getattr(dialect, key) for key in ("encoding", "separator", "quoted", "skip")}
    changed: dict[str, Any] = {key: value for key, value in given.items() if value != getattr(Dialect(), key)}
    readings = {name: Call("text", (source,)) for name, source in columns.items()}
    return f'''"""Reading {stored} in this folder: a text and its class a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from phaseflow.toolkit import delimited
from phaseflow.toolkit.delimited import Dialect, text

DIALECT = {render(Call("Dialect", by_name=changed), before=10)}
COLUMNS = {render(readings, before=10)}
CLASSES = {render(classes, before=10)}


def sample(seed: int) -> bytes:  # noqa: ARG001  # nothing is drawn: the whole file is here
    """The file."""
    return (Path(__file__).parent / "{stored}").read_bytes()


def read(content: bytes) -> pl.DataFrame:
    """The two columns, without rows that miss one, or whose class is too rare to learn."""
    return delimited.read(content, COLUMNS, DIALECT).drop_nulls().filter(pl.col("{label}").is_in(CLASSES))


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """The columns are the schema's already."""
    return raw
'''


MODEL: Final = '''"""A bag of words: single ones, and pairs of neighbours too."""

from __future__ import annotations

import polars as pl

from phaseflow import Candidate, Project
from phaseflow.toolkit import bag
from phaseflow.toolkit.model import Trained


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of the schema's columns."""
    return bag.fit(rows, project.schema, **candidate.params, seed=project.seed)
'''
WORLD: Final = '''"""The world that `phaseflow traffic --drift` plays: words that nobody has written before."""

from __future__ import annotations

import re

import numpy as np
import polars as pl


def drift(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:  # noqa: ARG001  # nothing is drawn
    """Texts [N] in which every longer word is spelled backwards: another language, of which only the truths tell the meaning."""
    strange = [re.sub(r"\\w{{3,}}", lambda word: word[0][::-1], text) for text in rows["{column}"]]
    return rows.with_columns(pl.Series("{column}", strange, dtype=pl.String))
'''
