"""Starts supervisord again when it is killed: `python -m phaseflow.embedded.guardian`, a program of supervisord's own.

The two watch each other: supervisord restarts a guardian that ends, and the guardian's standard input ends when supervisord does. Of an
orderly shutdown the guardian sees no end of its input, because supervisord ends its programs first.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Final

NAME: Final = "guardian"
TRIES: Final = 5


def main() -> int:
    """Wait for supervisord's end, then start it again with every program of its configuration."""
    while os.read(sys.stdin.fileno(), 4096):
        pass  # nobody writes anything
    # Late: until something happens it needs little memory.
    from phaseflow.embedded import supervisor  # noqa: PLC0415
    from phaseflow.errors import PlatformError  # noqa: PLC0415
    from phaseflow.settings import from_environment  # noqa: PLC0415

    settings = from_environment()
    for number in range(1, TRIES + 1):
        try:
            with supervisor.lock(settings):  # an `up` or `down` at work ends this process or has started supervisord
                if not supervisor.running(settings):
                    supervisor.launch(settings)
                    supervisor.start_all(settings)
        except PlatformError as error:
            print(f"try {number} of {TRIES}: {error}", file=sys.stderr)
            time.sleep(number)
        else:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
