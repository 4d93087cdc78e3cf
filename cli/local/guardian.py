"""Restarts supervisord if it is killed: `python -m cli.local.guardian`, which runs as one of supervisord's programs.

The two watch each other. Supervisord restarts a guardian that ends, and the guardian's standard input closes when
supervisord ends. In an orderly shutdown supervisord stops its programs first, so the guardian never sees its input
close.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Final

TRIES: Final = 5


def main() -> int:
    """Wait until supervisord ends, then start it again with every program of its configuration."""
    while os.read(sys.stdin.fileno(), 4096):
        pass  # nothing is ever written to it
    # Imported late, so that the process needs little memory while it waits.
    from cli.local import supervisor  # noqa: PLC0415
    from phaseflow.errors import PlatformError  # noqa: PLC0415
    from phaseflow.settings import from_environment  # noqa: PLC0415

    settings = from_environment()
    for attempt in range(1, TRIES + 1):
        try:
            with supervisor.lock(settings):  # a concurrent `up` or `down` ends this process, or has started supervisord
                if not supervisor.running(settings):
                    supervisor.launch(settings)
                    supervisor.start_all(settings)
        except PlatformError as error:
            print(f"attempt {attempt} of {TRIES}: {error}", file=sys.stderr)
            time.sleep(attempt)
        else:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
