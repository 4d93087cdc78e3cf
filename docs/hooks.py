"""MkDocs hooks: ARCHITECTURE.md becomes a page, links to files outside docs/ lead to the repository, and long names in
tables may break after a separator.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parent.parent
REPOSITORY: Final = "https://github.com/phaseflow/phaseflow/blob/main"
LINK: Final = re.compile(r"\]\((?!https?://|#|mailto:)([^)\s]+)\)")
CELL: Final = re.compile(r"<td.*?</td>", re.DOTALL)
CODE: Final = re.compile(r"(?<=<code>)[^<]+(?=</code>)")
SEPARATOR: Final = re.compile(r"(?<=\w[_/.:])(?=\w)")


def on_files(files: Files, config: Any) -> Files:
    """Add the architecture page."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    text = LINK.sub(lambda link: f"]({_from_root(link[1])})", text)
    files.append(File.generated(config, "architecture.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """The page with each link that leaves docs/ as an address."""
    folder = posixpath.dirname(page.file.src_uri)

    def address(link: re.Match[str]) -> str:
        target, mark, anchor = link[1].partition("#")
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if not target or path == "docs" or path.startswith("docs/"):
            return link[0]
        return f"]({REPOSITORY}/{path}{mark}{anchor})"

    return LINK.sub(address, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """The page with `<wbr>` after the separators of names in table cells. The style sheet forbids other breaks."""
    return CELL.sub(lambda cell: CODE.sub(lambda code: SEPARATOR.sub("<wbr>", code[0]), cell[0]), html)


def _from_root(target: str) -> str:
    """A link of a page in the root as one of a page in docs/; a folder's page is its index."""
    if not target.startswith("docs/"):
        return f"../{target}"
    inner = target.removeprefix("docs/")
    return inner if inner.endswith(".md") else {"adr": "adr/index.md", "reference": "reference/contract.md"}[inner]
