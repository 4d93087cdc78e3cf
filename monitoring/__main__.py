"""`python -m monitoring generate [--check] [--out DIR]` and `python -m monitoring check`.

generate: without `--out` the committed files, with production's windows; with it those of a platform on this machine.
check: asks Prometheus every query of every dashboard; ends with 1 where one is empty, and says which targets are away.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import httpx

from monitoring import generate
from monitoring.queries import empty, unreached
from monitoring.windows import rehearsal
from phaseflow.errors import PlatformError
from phaseflow.settings import from_environment
from phaseflow.store import write_atomic


def main(arguments: list[str] | None = None) -> int:
    """Do it."""
    parser = argparse.ArgumentParser(prog="monitoring")
    parser.add_argument("action", choices=("generate", "check"))
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--out", type=Path, help="the folder of a platform on this machine")
    parser.add_argument("--dashboard", action="append", help="only this one (check)")
    told = parser.parse_args(arguments)
    settings = from_environment()
    if told.action == "check":
        try:
            found = empty(settings, told.dashboard)
            away = unreached(settings) if found else []
        except httpx.HTTPError as error:
            address = settings.prometheus_url
            print(
                f"error: Prometheus at {address} can't be asked: {error}. Start it by `phaseflow up`.", file=sys.stderr
            )
            return 2
        for board, panel, query in found:
            print(f"{board}: {panel}: no data: {query}")
        for job, address, why in away:
            print(f"{job} is not scraped: {address}: {why}")
        return 1 if found else 0
    if told.out:
        windows, folder = rehearsal(settings), told.out.resolve()
        try:
            files = generate.portable(windows) | generate.machine(windows, settings, folder)
        except PlatformError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    else:
        folder, files = generate.COMMITTED, generate.committed()
    if told.check:
        old = generate.stale(folder, files)
        if old:
            print(f"error: {folder.name} is stale: {', '.join(old)}. Run `make generate`.", file=sys.stderr)
        return 1 if old else 0
    for name in generate.stale(folder, files):
        if name in files:
            # What belongs to a platform on this machine holds its logins.
            write_atomic(folder / name, files[name].encode(), mode=0o600 if told.out else 0o644)
        elif name.startswith(("rules/", "rehearsal/", "dashboards/")):
            (folder / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
