"""Limits of a service's process. POSIX alone; standard library only."""

from __future__ import annotations

import resource
from typing import Final

MAX_FILES: Final = 1 << 20
"""Where the system names no limit: some of its calls cost time for each file that may be open."""


def raise_file_limit() -> int:
    """Let this process open as many files as it may, and give how many: a login's usual 1,024 are few for a service with slow clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft == resource.RLIM_INFINITY or soft >= allowed:
        return allowed if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
