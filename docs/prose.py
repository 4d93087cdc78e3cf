"""`python docs/prose.py`: pages, docstrings and comments in plain English. Ends with 1 and names each line that is not.

Pages may not have a sentence of more than `MAX_WORDS` words. Neither pages nor code may have a construction of `BANNED`.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt

ROOT: Final = Path(__file__).parent.parent
MAX_WORDS: Final = 40
NOUNS: Final = "project|feature|class|part|row|step|task|group|column|alert|component|image|model|version|client|file"
WORD: Final = r"(?!(?:of|or|and|as|is|to|fit|with|for|in|by|on|from|at|than|why|that|which|when|if)\b)[\w-]+"
"""No preposition, conjunction or verb: "a part of a project" is fine."""
BANNED: Final = {
    re.compile(r"\bwhere there (is|are)\b", re.IGNORECASE): 'Write "if there is".',
    re.compile(r"\bwhat is no\b", re.IGNORECASE): 'Name it: "non-scalar values", "rejected rows".',
    re.compile(r"^What is \w+ed (is|are)\b"): "Put the subject first.",
    re.compile(rf"\b(an?|one) {WORD}( {WORD})? an? ({NOUNS})\b", re.IGNORECASE): 'Write "one … per …".',
    re.compile(r"\b(is|are|was|were) told (from|apart)\b", re.IGNORECASE): 'Write "distinguished from".',
    re.compile(r"\bsays (so|no)\b", re.IGNORECASE): "Say what happens: an error, a refusal.",
}
"""What a native reader stumbles over, and how to write it."""


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph."""
    return [part for part in re.split(r"(?<=[.!?:;])\s+", " ".join(text.split())) if part]


def page(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, sentence and fix of each one that is refused in a Markdown page; code and tables are no sentences."""
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text()):
        if token.type != "inline" or token.map is None:
            continue
        # A table's cell is checked for constructions alone.
        text = "".join(
            "code" if child.type == "code_inline" else child.content if child.type == "text" else " "
            for child in token.children or ()
        )
        for sentence in sentences(text):
            yield from ((token.map[0] + 1, sentence, fix) for fix in _refused(sentence))
            if len(sentence.split()) > MAX_WORDS:
                yield token.map[0] + 1, sentence, f"{len(sentence.split())} words; allowed: {MAX_WORDS}. Split it."


def code(path: Path) -> Iterator[tuple[int, str, str]]:
    """The same of docstrings and comments of a Python file."""
    content = path.read_text()
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for sentence in sentences(node.value.value):
                yield from ((node.lineno, sentence, fix) for fix in _refused(sentence))
    with path.open("rb") as file:
        comments = [token for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    for comment in comments:
        yield from ((comment.start[0], comment.string, fix) for fix in _refused(comment.string))


def _refused(sentence: str) -> list[str]:
    return [f'"{match[0]}": {fix}' for pattern, fix in BANNED.items() if (match := pattern.search(sentence))]


def main() -> int:
    """Check every file that git knows."""
    listed = subprocess.run(
        [shutil.which("git") or "git", "-C", str(ROOT), "ls-files", "-z", "*.md", "*.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    count = 0
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file() or path == Path(__file__):
            continue
        for line, sentence, fix in page(path) if path.suffix == ".md" else code(path):
            count += 1
            print(f"{name}:{line}: {fix}\n    {sentence[:200]}")
    if count:
        print(f"{count} sentences to rewrite", file=sys.stderr)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
