"""Arguments and options that several commands have."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cli.selection import Selection

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ShowPasswords = Annotated[bool, typer.Option("--show-passwords", help="Print the passwords, not only where they are.")]
Project = Annotated[str, typer.Argument(metavar="PROJECT", help="A name that `phaseflow projects` lists.")]


class Profile(StrEnum):
    """Sets of chart values for the available resources: `values-<profile>.yaml`."""

    SMALL = "small"
    KIND = "kind"
    PRODUCTION = "production"


def selection(context: typer.Context) -> Selection:
    """The options before the command."""
    chosen: Selection = context.obj
    return chosen
