"""Output of the commands: tables and progress for people, JSON for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cli.local.machine import Finding
from cli.platforms import Page
from phaseflow.errors import PhaseflowError

QUIET: Final = 10.0
"""Seconds between two lines that differ only in progress, if the output is not a terminal."""
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
if not console.is_terminal:
    console.width = 160  # a file or a pipe has no width


def error(problem: PhaseflowError) -> None:
    """Print the problem and its fix to stderr."""
    end = "" if problem.fix.endswith((".", "?", "`")) else "."
    errors.print(f"[bold red]error:[/] {escape(problem.problem.strip().rstrip('.'))}.", soft_wrap=True)
    errors.print(f"[bold]fix:[/] {escape(problem.fix)}{end}", soft_wrap=True)


def data(value: object) -> None:
    """Print the value as JSON."""
    print(json.dumps(value, indent=2, default=str))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table without borders; cells may contain rich markup."""
    grid = Table(
        title=title or None, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
    )
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(str(cell) for cell in row))
    console.print(grid)


def findings(results: Iterable[Finding]) -> None:
    """Print the findings of a `doctor` command."""
    table(
        "",
        ("", "check", "result", "fix"),
        [
            (
                mark(finding.ok if finding.required or finding.ok else None),
                finding.subject,
                finding.observed,
                finding.fix,
            )
            for finding in results
        ],
    )


def pages(entries: Iterable[Page]) -> None:
    """Print pages with their users, and the passwords or where they are."""
    table(
        "",
        ("page", "address", "user", "password"),
        [
            (
                entry.name,
                f"[link={entry.url}]{entry.url}[/]" if entry.url else f"[dim]{entry.hint}[/]",
                entry.user,
                entry.password or entry.password_file or entry.password_command,
            )
            for entry in entries
        ],
    )


def mark(ok: bool | None) -> str:
    """A green tick, a red cross, or a dash for an optional check that failed."""
    return {True: "[green]✓[/]", False: "[red]✗[/]", None: "[yellow]-[/]"}[ok]


def duration(seconds: float) -> str:
    """A duration for people: 45 s, 3 min 5 s, 2 h 10 min."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"


@contextmanager
def working(text: str, *, quiet: bool = False) -> Iterator[Any]:
    """Show a spinner with the elapsed time. Yields a function that changes its text.

    If the output is not a terminal, changed texts are printed as lines.
    """
    if quiet:
        yield lambda _text: None
        return
    if not console.is_terminal:
        console.print(text)
        last_text, last_time = text, time.monotonic()

        def line(new_text: str) -> None:
            nonlocal last_text, last_time
            if (
                new_text.partition(": sent")[0] != last_text.partition(": sent")[0]
                or time.monotonic() - last_time > QUIET
            ):
                console.print(new_text, markup=False)
                last_text, last_time = new_text, time.monotonic()

        yield line
        return
    start = time.monotonic()
    spinner = Spinner("dots", text=text)

    class Clock:
        def __rich__(self) -> Spinner:
            spinner.update(text=Text.assemble(current[0], (f"  {time.monotonic() - start:.0f} s", "dim")))
            return spinner

    current = [text]

    def say(new_text: str) -> None:
        current[0] = new_text

    with Live(Clock(), console=console, transient=True, refresh_per_second=8):
        yield say


@contextmanager
def starting(*, quiet: bool = False) -> Iterator[Any]:
    """Show the progress of `lifecycle.up`: one line per started program, and the names of those still starting."""
    waiting: list[str] = []
    with working("starting", quiet=quiet) as say:

        def watch(name: str, state: str, seconds: float) -> None:
            if quiet:
                return
            if state == "starting":
                waiting.append(name)
            else:
                waiting.remove(name) if name in waiting else None
                console.print(f"{mark(True)} {name:<24} [dim]{seconds:5.1f} s[/]")
            if console.is_terminal:
                say(f"waiting for {', '.join(waiting)}" if waiting else "ready")

        yield watch
