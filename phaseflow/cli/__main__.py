"""`python -m phaseflow.cli`: the command, whose errors are the problem and the fix."""

from __future__ import annotations

import os
import sys

from phaseflow.errors import PhaseflowError
from phaseflow.settings import from_environment


def _home_settings() -> None:
    """`<home>/environment` holds this home's own `PHASEFLOW_*` lines; the caller's environment goes before them.

    Not for a demo, which moves that home aside.
    """
    if sys.argv[1:2] == ["demo"]:
        return
    try:
        lines = (from_environment().home / "environment").read_text().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and key.startswith("PHASEFLOW_"):
            os.environ.setdefault(key.strip(), value.strip())


def main() -> int:
    """Run it; 2 where a PhaseflowError says what to mend, 130 where a person stopped it."""
    try:
        _home_settings()
        from phaseflow.cli.app import app  # noqa: PLC0415  # after the settings that it reads

        app()
    except PhaseflowError as error:
        from phaseflow.cli import show  # noqa: PLC0415  # only an error needs it

        show.error(error)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; `phaseflow status` says what runs", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
