"""Print the tag of phaseflow's images: a hash of all files that they are built from.

The same content has the same tag, so that pods are replaced if the code has changed, and only then. `python k8s/image_tag.py`
needs the standard library alone.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BUILD: Final = ("k8s/Dockerfile", "k8s/images.hcl")
"""What says how the images are built. It is not in the build context."""


def context(root: Path) -> Iterator[Path]:
    """Files of the build context. `.dockerignore` excludes all files, and `!` includes a path again."""
    lines = [line for line in (root / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    excluded_names = {line.removeprefix("**/") for line in lines if line.startswith("**/")}
    excluded_paths = {root / line for line in lines if not line.startswith(("*", "!"))}
    for line in lines:
        if line.startswith("!"):
            path = root / line.removeprefix("!")
            for file in [path] if path.is_file() else path.rglob("*"):
                excluded = file in excluded_paths or excluded_names & set(file.relative_to(root).parts)
                if file.is_file() and not excluded:
                    yield file


def tag(root: Path) -> str:
    """The tag. It starts with letters, because helm's `--set` reads digits as a number."""
    content = hashlib.sha256()
    for file in sorted({*context(root), *(root / name for name in BUILD)}):
        content.update(
            f"{file.relative_to(root).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode()
        )
    return f"src-{content.hexdigest()[:12]}"


if __name__ == "__main__":
    print(tag(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
