"""`python -m cli.reference [--check]`: the reference pages that are made from the code: commands, settings, and the contract.

With `--check` nothing is written; the exit status is 1 if a page is stale, and stderr names it.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import typer.main

from cli.app import app
from phaseflow import contract, generated, kinds, metric_names, settings
from phaseflow.store import write_atomic

FOLDER: Final = settings.ROOT / "docs" / "reference"
NOTE: Final = "<!-- Made by `make generate` from {source}. Edit that instead. -->"
METRICS_BEGIN: Final = "<!-- Made by `make generate` from `phaseflow/metric_names.py`. -->"
METRICS_END: Final = "<!-- End of the metrics. -->"
EXAMPLE_SHAPES: Final = {"image": (28, 28, 1), "action": (2,)}
"""Shapes for the examples of kinds that need one."""
CLASSES: Final = (
    contract.Project,
    contract.Source,
    contract.File,
    contract.Schema,
    contract.Column,
    contract.Candidate,
    contract.Metric,
    contract.Slice,
    contract.Gate,
    contract.Drift,
    contract.Keep,
    contract.Objectives,
    contract.Resources,
)


def pages() -> dict[Path, str]:
    """Content of each page, by file."""
    return {
        FOLDER / "cli.md": commands_page(),
        FOLDER / "settings.md": settings_page(),
        FOLDER / "contract.md": contract_page(),
        FOLDER / "metrics.md": metrics_page((FOLDER / "metrics.md").read_text()),
    }


def commands_page() -> str:
    """Every command of `phaseflow` with its description, examples, arguments and options."""
    root = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        NOTE.format(source="`cli/app.py` and `cli/commands`"),
        "",
        "Run `bin/phaseflow COMMAND --help` for the same text in the terminal. Exit status 0 means success, 1 an unsuccessful result such as an "
        "unhealthy part, 2 an error with its fix, and 130 the end by Ctrl-C.",
        "",
        "## `phaseflow`",
        *_described(root),
    ]
    for name, command in commands().items():
        lines += ["", f"## `phaseflow {name}`", *_described(command)]
    return "\n".join(lines).rstrip() + "\n"


def commands() -> dict[str, Any]:
    """Every command that help lists, by name."""
    group: Any = typer.main.get_command(app)
    return {name: command for name, command in group.commands.items() if not command.hidden}


def examples(command: Any) -> list[str]:
    """The lines of the `Example:` block of a command's help."""
    block = inspect.cleandoc(command.help or "").partition("Example:")[2]
    return [line.strip() for line in block.splitlines() if line.strip()]


def _described(command: Any) -> list[str]:
    """Description, examples and parameters of a command as Markdown."""
    text = inspect.cleandoc(command.help or "").partition("Example:")[0].strip()
    lines = ["", text, "", "```sh", *(f"bin/{line}" for line in examples(command)), "```"]
    rows = [_parameter(parameter) for parameter in command.params if parameter.name != "help"]
    return [*lines, "", *_table(("argument or option", "default", "description"), rows)] if rows else lines


def settings_page() -> str:
    """Every `PHASEFLOW_*` variable with its default."""
    defaults = settings.from_environment({})
    notes = field_notes(settings, "Settings")
    rows = []
    for field in dataclasses.fields(settings.Settings):
        note = notes.get(field.name) or _address_note(field.name)
        rows.append((f"`PHASEFLOW_{field.name.upper()}`", _default(getattr(defaults, field.name)), note))
    lines = [
        "# Settings",
        "",
        NOTE.format(source="`phaseflow/settings.py`"),
        "",
        "Each setting is an environment variable. `phaseflow.settings.from_environment` reads them.",
        "",
        *_table(("variable", "default", "description"), rows),
    ]
    return "\n".join(lines) + "\n"


def contract_page() -> str:
    """Every field of a project's declaration."""
    lines = [
        "# The contract",
        "",
        NOTE.format(source="`phaseflow/columns.py`, `phaseflow/contract` and `phaseflow/kinds`"),
        "",
        "A project is one `Project(...)` in `projects/<name>/project.py`. All classes below are frozen dataclasses of `phaseflow`; wrong values raise "
        "`ContractError`, which names the field, the allowed values and the fix.",
    ]
    for declared in CLASSES:
        notes = field_notes(sys.modules[declared.__module__], declared.__name__)
        rows = [
            (f"`{field.name}`", f"`{field.type}`".replace("|", "\\|"), _field_default(field), notes.get(field.name, ""))
            for field in dataclasses.fields(declared)
        ]
        about = inspect.cleandoc(declared.__doc__ or "")
        lines += ["", f"## `{declared.__name__}`", "", about, ""]
        lines += _table(("field", "type", "default", "description"), rows)
    return "\n".join([*lines, *_kinds()]) + "\n"


def _kinds() -> list[str]:
    """The table of the kinds, and of the predictions of targets, from the classes in `phaseflow.kinds`."""
    rows, targets = [], []
    for kind in kinds.KINDS.values():
        column = contract.Column(name="x", kind=kind.name, shape=EXAMPLE_SHAPES.get(kind.name, ()))
        statistics = ", ".join(f"`x.{name}`" for name in kind.statistics(column)) or "`x`"
        about, *_ = inspect.cleandoc(type(kind).__doc__ or "").split("\n\n")
        json_form = kind.json_form if kind.is_feature else "only a target"
        rows.append((f"`{kind.name}`", " ".join(about.split()), kind.dtype, f"`{kind.tensor}`", json_form, statistics))
        if kind.prediction:
            outputs, *_ = inspect.cleandoc(type(kind).prediction.__doc__ or "").split("\n\n")
            metrics = ", ".join(f"`{name}`" for name in kind.prediction.metrics) or "those of `Project.evaluate`"
            losses = ", ".join(f"`{name}`" for name in kind.prediction.losses)
            targets.append((f"`{kind.name}`", kind.prediction.task, " ".join(outputs.split()), metrics, losses))
    return [
        "",
        "## Kinds",
        "",
        "A class in `phaseflow/kinds` owns everything that depends on the kind of a column. [Add a kind](../how-to/add-a-kind.md) describes how to add one. "
        "The monitored names are those of a column `x`.",
        "",
        *_table(("kind", "value", "dtype on disk", "ONNX input", "JSON of a request", "monitored"), rows),
        "",
        "The kind of the target decides the task and the predictions. A project without a target is a clustering.",
        "",
        *_table(
            ("kind of the target", "task", "predictions, with outputs of the graph", "metrics", "live losses"), targets
        ),
    ]


def metrics_page(page: str) -> str:
    """The page with its table made again; raises ValueError without the two marks."""
    before, begin, rest = page.partition(METRICS_BEGIN)
    _, end, after = rest.partition(METRICS_END)
    if not (begin and end):
        raise ValueError(f"docs/reference/metrics.md lacks the lines {METRICS_BEGIN!r} and {METRICS_END!r}")
    rows = [
        (
            f"`{metric.series}`",
            metric.type,
            ", ".join(f"`{label}`" for label in metric.labels),
            ", ".join(metric.sources),
            metric.help,
        )
        for metric in metric_names.METRICS
    ]
    table = "\n".join(_table(("metric", "type", "labels", "source", "description"), rows))
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def field_notes(module: ModuleType, name: str) -> Mapping[str, str]:
    """The docstring below each annotated field of a class, in one line."""
    tree = ast.parse(inspect.getsource(module))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    notes = {}
    for field, note in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(note, ast.Expr):
            text = note.value.value if isinstance(note.value, ast.Constant) else ""
            notes[field.target.id] = " ".join(str(text).split()).replace("|", "\\|")
    return notes


def _parameter(parameter: Any) -> tuple[str, str, str]:
    option = parameter.param_type_name == "option"
    name = ", ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))
    default = "required" if parameter.required else _default(parameter.default)
    text = " ".join((getattr(parameter, "help", None) or "").split())
    if parameter.envvar:
        text += f" Environment variable: `{parameter.envvar}`."
    return name if option else f"`{parameter.name.upper()}`", default, text.replace("|", "\\|")


def _default(value: object) -> str:
    if value in (None, "", False) or (isinstance(value, tuple | frozenset | list) and not value):
        return ""
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{text}`".replace(str(settings.ROOT), "<checkout>")


def _field_default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`" if not dataclasses.is_dataclass(field.default) else "its defaults"
    return "required" if field.default_factory is dataclasses.MISSING else "its defaults"


def _address_note(name: str) -> str:
    part = name.removesuffix("_url")
    return f"Address of {part.replace('_', ' ')}." if name.endswith("_url") else ""


def _table(head: tuple[str, ...], rows: list[Any]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows)]


def main(arguments: list[str] | None = None) -> int:
    """Write the pages, or name those that are stale."""
    parser = argparse.ArgumentParser(prog="cli.reference", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is stale")
    args = parser.parse_args(arguments)
    texts = {path.relative_to(settings.ROOT).as_posix(): text for path, text in pages().items()}
    stale = generated.stale(settings.ROOT, texts, whole=False)
    for name in stale:
        if args.check:
            print(f"stale: {name} (`make generate`)", file=sys.stderr)
        else:
            (settings.ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(settings.ROOT / name, texts[name].encode())
    return 1 if stale and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
