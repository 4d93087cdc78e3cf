"""Errors that end with the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PhaseflowError(Exception):
    """What went wrong, and the fix, which is always the message's last sentence."""

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
    """A process, port, file or service of the platform is not in order."""


def suggestion(found: object, allowed: Iterable[str]) -> str:
    """'Did you mean "x"?' where a close name exists, else the empty string."""
    close = difflib.get_close_matches(str(found), list(allowed), n=1, cutoff=0.6)
    return f'Did you mean "{close[0]}"?' if close else ""
