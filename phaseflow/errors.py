"""Exceptions whose message ends with the fix, and how they cross from one process to another.

    PhaseflowError
    ├── ContractError     a declaration contains an invalid value
    ├── DataError         source data does not match the schema
    └── PlatformError     a part of the platform is not available; a retry may succeed
        └── PermanentError    a retry fails again

A program that fails logs the message, and the last line of its stderr is a JSON object (`report`). The program that started it reads that
line (`from_output`).
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterable
from typing import ClassVar, Final

from phaseflow.log import logger

TRANSIENT: Final = 1
"""Exit status of a program if a retry may succeed. Unexpected exceptions have the same exit status."""
PERMANENT: Final = 2
"""Exit status of a program if a retry fails again. argparse uses the same exit status for invalid arguments."""


class PhaseflowError(Exception):
    """Base class of all errors. The message is the problem, followed by the fix as its last sentence."""

    exit_status: ClassVar[int] = PERMANENT
    """Exit status of a program that fails with this error: `TRANSIENT` or `PERMANENT`."""

    def __init__(self, problem: str, *, fix: str) -> None:
        self.problem = problem
        self.fix = fix
        end = "" if fix.endswith(("?", "`")) else "."
        super().__init__(f"{problem.rstrip('.')}. {fix.rstrip('.')}{end}")


class ContractError(PhaseflowError):
    """A declaration contains an invalid value."""


class DataError(PhaseflowError):
    """Source data does not match the schema of the project."""


class PlatformError(PhaseflowError):
    """A process, port, file or service of the platform is not available. A retry may succeed."""

    exit_status = TRANSIENT


class PermanentError(PlatformError):
    """A requested object does not exist, or a request is refused. A retry fails again."""

    exit_status = PERMANENT


def report(error: PhaseflowError) -> int:
    """Log the error, and write its JSON to stderr as the last line. Return the exit status of the program."""
    logger.error("%s", error)
    content = {"error": type(error).__name__, "problem": error.problem, "fix": error.fix}
    sys.stderr.write(f"{json.dumps(content)}\n")
    sys.stderr.flush()
    return error.exit_status


def from_output(output: str) -> PhaseflowError | None:
    """Return the error that a failed program reported in its output; None if the last line is no report."""
    lines = output.strip().splitlines()
    try:
        content = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    if not isinstance(content, dict) or not content.keys() >= {"error", "problem", "fix"}:
        return None
    kinds = {kind.__name__: kind for kind in (ContractError, DataError, PlatformError, PermanentError)}
    kind = kinds.get(str(content["error"]), PhaseflowError)
    return kind(str(content["problem"]), fix=str(content["fix"]))


def suggestion(value: object, allowed: Iterable[str]) -> str:
    """Return 'Did you mean "x"?' for the closest of the `allowed` values, or an empty string if none is similar."""
    matches = difflib.get_close_matches(str(value), list(allowed), n=1, cutoff=0.6)
    return f'Did you mean "{matches[0]}"?' if matches else ""
