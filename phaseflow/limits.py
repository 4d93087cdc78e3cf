"""Resource limits of a service process, on POSIX systems. This module uses only the standard library."""

from __future__ import annotations

import resource
from typing import Final

MAX_FILES: Final = 1 << 20
"""Limit to set if the system has none. Some system calls take time for each file that may be open."""


def raise_file_limit() -> int:
    """Raise the limit of open files to the allowed maximum and return it.

    The usual default of 1,024 is too low for a service with slow clients.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft == resource.RLIM_INFINITY or soft >= allowed:
        return allowed if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
