"""Where a project's table comes from, and text for its files."""

from __future__ import annotations

from dataclasses import dataclass

from cli.scaffold.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Name and data file of a project."""

    name: str
    """Name of the project."""
    file: str
    """Name of the CSV file."""
    content: bytes
    """Content of the data file in the project's folder, optionally gzipped."""
    url: str = ""
    sha256: str = ""
    """SHA-256 of the file at `url`."""

    @property
    def title(self) -> str:
        """The name as a title."""
        return self.name.replace("_", " ").capitalize()

    @property
    def stored(self) -> str:
        """Name of the data file in the project's folder."""
        return "data.csv.gz" if self.content.startswith(b"\x1f\x8b") else "data.csv"


def what(plan: Plan) -> str:
    """What the project predicts, as the end of a sentence."""
    target = plan.target.source[:60].replace("\n", " ").replace('"', "'").replace("\\", "/")
    if plan.task == "regression":
        return f"predicts {target}, a number"
    return f"predicts {target}, one of {len(plan.classes)} classes"


def line(text: str, longest: int = 80) -> str:
    """`text` on one line, safe for tables and docstrings."""
    text = " ".join(text.split()).replace("|", "/").replace("\\", "/").replace('"', "'")
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
