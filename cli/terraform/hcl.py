"""The blocks of Terraform's files that the READMEs show. It reads what `terraform fmt` writes, not all of HCL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BLOCK: Final = re.compile(
    r'^(variable|output|resource|ephemeral|data|module) ((?:"[^"]+" ?)+)\{\n(.*?)^\}\n', re.MULTILINE | re.DOTALL
)
_OPEN, _CLOSE = "{[(", "}])"


@dataclass(frozen=True, slots=True)
class Block:
    """A block at the top level of a file."""

    kind: str
    labels: tuple[str, ...]
    body: str

    def argument(self, name: str) -> str | None:
        """The expression of an argument as it is written, without the indentation of its lines; None if it is not there."""
        match = re.search(rf"^  {name} += ", self.body, re.MULTILINE)
        if match is None:
            return None
        rest = self.body[match.end() :]
        return _heredoc(rest) if rest.startswith("<<") else _balanced(rest)

    def text(self, name: str) -> str:
        """A string argument in one line; empty if it is not there."""
        value = re.sub(r"^<<-?\w+\n", "", self.argument(name) or "")
        return " ".join(value.strip().strip('"').replace('\\"', '"').split())


def _heredoc(text: str) -> str:
    first, *lines = text.split("\n")
    mark = first.lstrip("<-").strip()
    end = next(index for index, line in enumerate(lines) if line.strip() == mark)
    return "\n".join(lines[:end])


def _balanced(text: str) -> str:
    """The text until its first line at whose end every bracket outside of strings is closed."""
    lines: list[str] = []
    depth = 0
    for line in text.split("\n"):
        lines.append(line[2:] if lines and line.startswith("  ") else line)
        bare = re.sub(r'"(?:\\.|[^"\\])*"', "", line)
        depth += sum(bare.count(bracket) for bracket in _OPEN) - sum(bare.count(bracket) for bracket in _CLOSE)
        if depth <= 0:
            break
    return "\n".join(lines)


def blocks(folder: Path) -> list[Block]:
    """Every block of a module, in the order of its files' names."""
    return [
        Block(match[1], tuple(re.findall(r'"([^"]+)"', match[2])), match[3])
        for path in sorted(folder.glob("*.tf"))
        for match in _BLOCK.finditer(path.read_text())
    ]


def introduction(folder: Path) -> str:
    """The comment at the start of main.tf."""
    lines = []
    for line in (folder / "main.tf").read_text().split("\n"):
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def example(folder: Path) -> str:
    """The values that the module's test begins with; empty if it has none."""
    for path in sorted(folder.glob("tests/*.tftest.hcl")):
        if match := re.search(r"^variables \{\n(.*?)^\}", path.read_text(), re.MULTILINE | re.DOTALL):
            return match[1].rstrip("\n")
    return ""
