"""Errors that end with the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar, Final

TRANSIENT: Final = 1
"""Exit status of a program that another try may bring to its end: so is that of an exception nobody expected."""
PERMANENT: Final = 2
"""Exit status of a program that fails again however often it is tried; argparse's for wrong arguments too."""


class PhaseflowError(Exception):
    """What went wrong, and the fix, which is always the message's last sentence."""

    exit_status: ClassVar[int] = PERMANENT
    """How a program ends for it: `TRANSIENT` or `PERMANENT`."""

    def __init__(self, problem: str, *, fix: str) -> None:
        self.problem = problem
        self.fix = fix
        end = "" if fix.endswith(("?", "`")) else "."
        super().__init__(f"{problem.rstrip('.')}. {fix.rstrip('.')}{end}")


class ContractError(PhaseflowError):
    """A declaration holds a wrong value."""


class DataError(PhaseflowError):
    """Source data is not what the project's schema says."""


class PlatformError(PhaseflowError):
    """A process, port, file or service of the platform is not in order; it may be, a moment later."""

    exit_status = TRANSIENT


class PermanentError(PlatformError):
    """What was asked for does not exist, or is refused, however often it is tried."""

    exit_status = PERMANENT


def suggestion(found: object, allowed: Iterable[str]) -> str:
    """'Did you mean "x"?' where a close name exists, else the empty string."""
    close = difflib.get_close_matches(str(found), list(allowed), n=1, cutoff=0.6)
    return f'Did you mean "{close[0]}"?' if close else ""
