"""`python -m cli`: runs the `phaseflow` command."""

from __future__ import annotations

from cli.app import app

if __name__ == "__main__":
    app()
