"""Errors of the command line in the form of all others: the problem, then the fix."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any, Final

import typer
from typer.core import TyperGroup

from cli import show
from phaseflow.errors import PermanentError, PhaseflowError, suggestion

INTERRUPTED: Final = 130
"""Exit status after Ctrl-C."""
WRONG: Final = 2
"""Exit status after an error that has a fix."""


class Group(TyperGroup):
    """The group of all commands. It prints each error, and ends the program with its exit status."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,  # noqa: ARG002  # it is "phaseflow", however it was started
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command. The exit status is 0, its own, 2 after an error, or 130 after Ctrl-C."""
        call = {"complete_var": complete_var, "windows_expand_args": windows_expand_args, **extra}
        if not standalone_mode:
            return super().main(args, "phaseflow", standalone_mode=False, **call)
        try:
            status = super().main(args, "phaseflow", standalone_mode=False, **call)
        except PhaseflowError as error:
            show.error(error)
            sys.exit(WRONG)
        except typer.TyperException as error:
            show.error(_usage_error(error))
            sys.exit(error.exit_code)
        if status == INTERRUPTED:
            print("\nstopped; `phaseflow status` shows what is running", file=sys.stderr)
        sys.exit(status if isinstance(status, int) else 0)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the first argument names; raises PermanentError if there is none."""
        name = args[0]
        if not name.startswith("-") and name not in self.commands:
            visible = [key for key, command in self.commands.items() if not command.hidden]
            raise PermanentError(
                f"phaseflow has no command {name!r}",
                fix=suggestion(name, visible) or "`phaseflow --help` lists the commands",
            )
        return super().resolve_command(ctx, args)


def _usage_error(error: typer.TyperException) -> PhaseflowError:
    """The error of typer's parser as one of ours."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "phaseflow"
    option = getattr(error, "option_name", None)
    if context is not None and option is not None and hasattr(error, "possibilities"):
        return _unknown_option(option, context)
    problem = error.format_message().replace(" Value error, ", " ")
    value, _, choices = problem.partition(" is not one of ")
    fix = suggestion(value.rpartition(": ")[2].strip("'"), re.findall(r"'([^']+)'", choices))
    return PermanentError(problem, fix=fix or f"`{path} --help` describes each argument")


def _unknown_option(option: str, context: Any) -> PhaseflowError:
    """The error for an option that the command does not have."""
    root = context.find_root()
    shared = next((parameter for parameter in root.command.params if option in parameter.opts), None)
    if context is not root and shared is not None:
        return PermanentError(
            f"{option} selects the platform of every command, so it precedes the command",
            fix=f"`phaseflow {shared.opts[0]} NAME {context.info_name} …`",
        )
    options = [word for word in _options(context.command) if word.startswith("--")]
    return PermanentError(
        f"`{context.command_path}` has no option {option}",
        fix=suggestion(option, options) or f"`{context.command_path} --help` lists the options",
    )


def _options(command: Any) -> list[str]:
    return [word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)]
