"""The data profile, a self-contained HTML page: distributions, missing values, correlations, principal components."""

from __future__ import annotations

import base64
import html
from typing import Any, Final

import numpy as np
import polars as pl

from phaseflow import discovery, kinds
from phaseflow.contract import Column, Project
from phaseflow.toolkit import graph, pictures
from phaseflow.toolkit.pictures import BLUE
from phaseflow.toolkit.scalars import label_descriptors, prediction_vocabulary, scalars, vocabularies
from pipelines.steps import data

MAX_PANELS: Final = 24
MAX_EXAMPLES: Final = 30
STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #22303c }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem } img { max-width: 100% }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #e3e8ec }
td:first-child, th:first-child { text-align: left }
"""


def _picture(figure: Any) -> str:
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(pictures.png(figure, 80)).decode()}">'


def profile(project_name: str, snapshot: str) -> str:
    """Return the HTML profile of a snapshot's training rows."""
    project = discovery.get(project_name)
    whole = data.split(project, snapshot, "train")
    about = data.manifest(project, snapshot)
    target = project.schema.target
    vocabulary = vocabularies(project.schema, whole) | prediction_vocabulary(
        target, whole[target.name].to_list() if target else []
    )
    rows = scalars(project.schema, whole, vocabulary)
    rows = label_descriptors(target, rows, target.name, vocabulary) if target else rows
    names = [figure for column in project.schema.columns for figure in column.monitorable]
    numeric = [name for name in names if rows[name].dtype.is_numeric()]
    parts = [
        f"<!doctype html><meta charset='utf-8'><title>{html.escape(project.title)}</title><style>{STYLE}</style>",
        f"<h1>{html.escape(project.title)}: snapshot {html.escape(snapshot)}</h1>",
        f"<p>{rows.height:,} rows for training, {about['holdout_rows']:,} held out; {about['feedback_rows']:,} of all "
        f"rows are feedback from the service. Source: {html.escape(str(about['source']))}.</p>",
        *_examples(project, whole),
        "<h2>Distributions</h2>",
        _picture(_distributions(rows, names[:MAX_PANELS])),
        "<h2>Missing values</h2>",
        _missing(rows, names),
    ]
    if len(numeric) > 1:
        parts += ["<h2>Correlations of numeric columns</h2>", _picture(_correlations(rows, numeric))]
        parts += ["<h2>First two principal components</h2>", _picture(_components(project, rows, numeric))]
    return "\n".join(parts)


def _examples(project: Project, rows: pl.DataFrame) -> list[str]:
    """Show a few images and texts, which have no histogram, with their labels."""
    parts = []
    target = project.schema.target
    sample = rows.sample(min(MAX_EXAMPLES, rows.height), seed=project.seed)
    has_short_label = target is not None and not kinds.of_target(target).serialized  # JSON is too long for a title
    labels = sample[target.name].cast(pl.String).to_list() if target and has_short_label else [""] * sample.height
    for column in project.schema.features:
        if column.personal:
            continue
        if column.kind == "image":
            parts += [f"<h2>Examples of {html.escape(column.name)}</h2>", _picture(_gallery(sample, column, labels))]
        if column.kind == "text":
            lines = "".join(
                f"<tr><td>{html.escape(str(value)[:300])}</td><td>{html.escape(label)}</td></tr>"
                for value, label in zip(sample[column.name].head(10), labels, strict=False)
            )
            parts += [f"<h2>Examples of {html.escape(column.name)}</h2>", f"<table>{lines}</table>"]
    return parts


def _gallery(rows: pl.DataFrame, column: Column, labels: list[str]) -> Any:
    across = 10
    down = -(-rows.height // across)
    figure, panels = pictures.grid(down, across, (13, 1.5 * down))
    for axes, values, label in zip(panels, graph.pixels(rows[column.name], column.shape), labels, strict=False):
        axes.imshow(values, cmap="gray", vmin=0, vmax=255)
        axes.set_title(label[:14], fontsize=8)
    return figure


def _distributions(rows: pl.DataFrame, names: list[str]) -> Any:
    across = 4
    down = -(-len(names) // across)
    figure = pictures.blank((13, 2.3 * down))
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.axis("off")
    for axes, name in zip(grid.flat, names, strict=False):
        values = rows[name].drop_nulls()
        axes.set_title(name, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if values.dtype.is_numeric():
            axes.hist(values.to_numpy(), bins=24, color=BLUE)
        else:
            counts = values.cast(pl.String).value_counts(sort=True).head(8)
            axes.barh([str(word)[:14] for word in counts[name]][::-1], counts["count"].to_list()[::-1], color=BLUE)
        axes.tick_params(labelsize=8)
    return figure


def _missing(rows: pl.DataFrame, names: list[str]) -> str:
    counts = {name: rows[name].null_count() for name in names if rows[name].null_count()}
    if not counts:
        return "<p>None.</p>"
    lines = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{count:,}</td><td>{count / rows.height:.1%}</td></tr>"
        for name, count in sorted(counts.items(), key=lambda item: -item[1])
    )
    return f"<table><tr><th>column</th><th>rows</th><th>share</th></tr>{lines}</table>"


def _standard(rows: pl.DataFrame, names: list[str]) -> Any:
    values = rows.select([pl.col(name).cast(pl.Float64).fill_null(pl.col(name).median()) for name in names]).to_numpy()
    values = np.nan_to_num(values)
    return (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-12)


def _correlations(rows: pl.DataFrame, names: list[str]) -> Any:
    values = np.nan_to_num(np.corrcoef(_standard(rows, names), rowvar=False))
    size = min(12, 2.5 + 0.3 * len(names))
    figure = pictures.blank((size + 1, size))
    axes = figure.subplots()
    image = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    figure.colorbar(image, shrink=0.7)
    return figure


def _components(project: Project, rows: pl.DataFrame, names: list[str]) -> Any:
    target = project.schema.target.name if project.schema.target else ""
    target = target if target in rows.columns else ""  # a structured target is only present as descriptors
    feature_names = [name for name in names if name != target]
    values = _standard(rows, feature_names)
    _, strengths, components = np.linalg.svd(values, full_matrices=False)
    points = (
        values @ components[:2].T if len(feature_names) > 1 else np.column_stack([values[:, 0], np.zeros(len(values))])
    )
    shares = strengths**2 / max((strengths**2).sum(), 1e-12)
    figure = pictures.blank((7, 5))
    axes = figure.subplots()
    if target and rows[target].dtype.is_numeric():
        scatter = axes.scatter(points[:, 0], points[:, 1], c=rows[target].to_numpy(), s=8, cmap="viridis")
        figure.colorbar(scatter, label=target)
    elif target:
        for word in sorted(set(rows[target].cast(pl.String).to_list())):
            mask = (rows[target].cast(pl.String) == word).to_numpy()
            axes.plot(points[mask, 0], points[mask, 1], ".", label=f"{target} {word}", alpha=0.6)
        axes.legend(frameon=False)
    else:
        axes.plot(points[:, 0], points[:, 1], ".")
    second = shares[1] if len(shares) > 1 else 0.0
    axes.set(xlabel=f"first component ({shares[0]:.0%} of the variance)", ylabel=f"second ({second:.0%})")
    return figure
