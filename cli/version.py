"""`python -m cli.version [--check]`: write the version of `phaseflow/__init__.py` into every other file that needs it.

These are pyproject.toml, uv.lock and the charts with their dependencies on each other. Tags of our images need none:
they default to the chart's `appVersion`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from phaseflow import __version__, settings
from phaseflow.store import write_atomic


def in_pyproject(text: str, version: str) -> str:
    """The text of pyproject.toml with the project's version."""
    return re.sub(r'(?m)^(name = "phaseflow"\nversion = )".*"$', rf'\g<1>"{version}"', text)


def in_chart(text: str, version: str) -> str:
    """The text of a Chart.yaml with the version, also of its dependencies in `helm/`.

    An `appVersion` that differs from the chart's version is that of the upstream application, and is kept.
    """
    current = re.search(r"(?m)^version: (.*)$", text)
    if current is None:
        return text
    text = re.sub(rf"(?m)^((?:v|appV)ersion): {re.escape(current[1])}$", rf"\1: {version}", text)
    return re.sub(r'(?m)^(  - \{.*?version: )[^,]+(, repository: "file://)', rf"\g<1>{version}\g<2>", text)


def files(root: Path, version: str) -> Iterator[tuple[Path, str]]:
    """Each file below `root` that holds the version, and its text with `version`."""
    for name in ("pyproject.toml", "uv.lock"):
        yield root / name, in_pyproject((root / name).read_text(), version)
    for path in sorted(root.glob("helm/*/Chart.yaml")):
        yield path, in_chart(path.read_text(), version)


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or name those that are stale."""
    parser = argparse.ArgumentParser(prog="cli.version", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file has another version")
    args = parser.parse_args(arguments)
    stale = [(path, text) for path, text in files(settings.ROOT, __version__) if path.read_text() != text]
    for path, text in stale:
        if args.check:
            print(f"stale: the version in {path.relative_to(settings.ROOT)} (`make generate`)", file=sys.stderr)
        else:
            write_atomic(path, text.encode())
    return 1 if stale and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
