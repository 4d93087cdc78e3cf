"""Tables and progress for people; JSON for programs."""

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

from phaseflow.embedded.machine import Finding
from phaseflow.errors import PhaseflowError

QUIET: Final = 10.0
"""Seconds between two lines that differ only by how far it has come, where there is no terminal."""
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
if not console.is_terminal:
    console.width = 160  # a file or a pipe has no edge


def error(problem: PhaseflowError) -> None:
    """The problem in red and its fix."""
    end = "" if problem.fix.endswith((".", "?", "`")) else "."
    errors.print(f"[bold red]error:[/] {escape(problem.problem.strip().rstrip('.'))}.", soft_wrap=True)
    errors.print(f"[bold]fix:[/] {escape(problem.fix)}{end}", soft_wrap=True)


def data(value: object) -> None:
    """JSON, as a program reads it."""
    print(json.dumps(value, indent=2, default=str))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A plain table; a cell may hold rich's markup."""
    drawn = Table(
        title=title or None, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
    )
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(str(cell) for cell in row))
    console.print(drawn)


def findings(found: Iterable[Finding]) -> None:
    """What a doctor saw."""
    table(
        "",
        ("", "what", "found", "fix"),
        [(mark(item.ok if item.required or item.ok else None), item.subject, item.found, item.fix) for item in found],
    )


def mark(ok: bool | None) -> str:
    """A green tick, a red cross, or a dash for what does not matter."""
    return {True: "[green]✓[/]", False: "[red]✗[/]", None: "[yellow]-[/]"}[ok]


def duration(seconds: float) -> str:
    """45 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def working(text: str, *, quiet: bool = False) -> Iterator[Any]:
    """A spinner with the time passed; gives `say`, which changes its text. Without a terminal a text now and then is a line."""
    if quiet:
        yield lambda _text: None
        return
    if not console.is_terminal:
        console.print(text)
        said, since = text, time.monotonic()

        def line(new: str) -> None:
            nonlocal said, since
            if new.partition(": sent")[0] != said.partition(": sent")[0] or time.monotonic() - since > QUIET:
                console.print(new, markup=False)
                said, since = new, time.monotonic()

        yield line
        return
    begun = time.monotonic()
    spinner = Spinner("dots", text=text)

    class Clock:
        def __rich__(self) -> Spinner:
            spinner.update(text=Text.assemble(shown[0], (f"  {time.monotonic() - begun:.0f} s", "dim")))
            return spinner

    shown = [text]

    def say(new: str) -> None:
        shown[0] = new

    with Live(Clock(), console=console, transient=True, refresh_per_second=8):
        yield say


@contextmanager
def starting(*, quiet: bool = False) -> Iterator[Any]:
    """What `lifecycle.up` tells: a line for each program that answers, with its time, and what is still starting."""
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
