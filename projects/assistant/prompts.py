"""The prompt registry: prompts as files under version control, and an evaluation that chooses one.

A file `prompts/<name>.v<version>.txt` contains the placeholders `{instruction}` and `{context}`. Never edit a version;
add a new file instead, so that a model's card can name the exact prompt. `python -m projects.assistant.compare`
evaluates each prompt on an endpoint.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phaseflow.errors import ContractError

FOLDER: Final = Path(__file__).parent / "prompts"
NAME: Final = re.compile(r"(?P<name>[a-z_]+)\.v(?P<version>\d+)\.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One version of one prompt."""

    name: str
    version: int
    text: str

    @property
    def identifier(self) -> str:
        """Name, version, and the first digits of the text's SHA-256, for messages and tags."""
        return f"{self.name} v{self.version} ({hashlib.sha256(self.text.encode()).hexdigest()[:8]})"


def load(folder: Path = FOLDER) -> tuple[Prompt, ...]:
    """Load every prompt of the folder; raise ContractError for a file that is not a valid prompt."""
    prompts = []
    for path in sorted(folder.iterdir()):
        match, text = NAME.fullmatch(path.name), path.read_text()
        if match is None or "{instruction}" not in text:
            raise ContractError(
                f"{path.name} is not a valid prompt",
                fix='Name it "<name>.v<number>.txt" and include {instruction} in its text',
            )
        prompts.append(Prompt(name=match["name"], version=int(match["version"]), text=text))
    return tuple(prompts)


def newest(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Return the newest version of each name. Older versions remain as a record and are not evaluated again."""
    latest = {prompt.name: prompt for prompt in sorted(prompts, key=lambda prompt: prompt.version)}
    return tuple(latest.values())


def choose(prompts: Sequence[Prompt], score: Callable[[Prompt], float]) -> tuple[Prompt, dict[str, float]]:
    """Return the prompt with the lowest `score` (perplexity of the correct responses), and the score of each."""
    scores = {prompt.identifier: score(prompt) for prompt in prompts}
    return min(prompts, key=lambda prompt: scores[prompt.identifier]), scores
