"""`python -m cli.terraform [--check]`: write the READMEs of Terraform's modules and the page of costs."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from cli.terraform import prices, readme
from phaseflow import generated
from phaseflow.settings import ROOT
from phaseflow.store import write_atomic

COSTS: Final = "docs/reference/cloud-costs.md"


def files() -> dict[str, str]:
    """The current content of each generated file, by path relative to the repository root."""
    contents = {(folder / "README.md").relative_to(ROOT).as_posix(): readme.text(folder) for folder in readme.folders()}
    return contents | {COSTS: prices.page()}


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="cli.terraform")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with status 1 if a file is stale")
    args = parser.parse_args(arguments)
    contents = files()
    stale = generated.stale(ROOT, contents, whole=False)
    if args.check and stale:
        print(f"error: stale: {', '.join(stale)}. Run `make generate`.", file=sys.stderr)
        return 1
    for name in stale:
        write_atomic(ROOT / name, contents[name].encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
