"""`python -m monitoring generate [--check] [--out DIR]` and `python -m monitoring check`.

generate: writes the committed files, with production's windows; with `--out`, the files of a platform on this machine.
check: runs every query of every dashboard; exits with 1 if a result is empty, and lists the targets that are not scraped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from monitoring import generate
from monitoring.queries import empty, unreached
from monitoring.windows import rehearsal
from phaseflow import errors, generated, log
from phaseflow.errors import PlatformError
from phaseflow.log import logger
from phaseflow.settings import from_environment
from phaseflow.store import write_atomic


def main(arguments: list[str] | None = None) -> int:
    """Run the action; returns the exit status."""
    parser = argparse.ArgumentParser(prog="monitoring")
    parser.add_argument("action", choices=("generate", "check"))
    parser.add_argument("--check", action="store_true", help="only compare with the existing files")
    parser.add_argument("--out", type=Path, help="folder for the files of a platform on this machine")
    parser.add_argument("--dashboard", action="append", help="check only this dashboard; may be repeated")
    args = parser.parse_args(arguments)
    settings = from_environment()
    log.configure("monitoring", settings.log_format)
    if args.action == "check":
        try:
            empty_panels = empty(settings, args.dashboard)
            down_targets = unreached(settings) if empty_panels else []
        except PlatformError as error:
            errors.report(error)
            return 2
        for board, panel, query in empty_panels:
            print(f"{board}: {panel}: no data: {query}")
        for job, address, why in down_targets:
            print(f"{job} is not scraped: {address}: {why}")
        return 1 if empty_panels else 0
    if args.out:
        windows, folder = rehearsal(settings), args.out.resolve()
        try:
            files = generate.portable(windows) | generate.machine(windows, settings, folder)
        except PlatformError as error:
            errors.report(error)
            return 2
    else:
        folder, files = generate.COMMITTED, generate.committed()
    if args.check:
        stale_files = generated.stale(folder, files)
        if stale_files:
            logger.error("%s is stale: %s. Run `make generate`.", folder.name, ", ".join(stale_files))
        return 1 if stale_files else 0
    for name in generated.stale(folder, files):
        if name in files:
            # The files of a platform on this machine contain its logins.
            write_atomic(folder / name, files[name].encode(), mode=0o600 if args.out else 0o644)
        elif name.startswith(("rules/", "rehearsal/", "dashboards/")):
            (folder / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
