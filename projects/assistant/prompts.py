"""The registry of prompts: files that are versioned like code, and an evaluation that chooses one.

`prompts/<name>.v<version>.txt` holds `{instruction}` and `{context}`. A version is never edited: a better one is a new file, so that a
model's card can say which one it was made with. `python -m projects.assistant.prompts` asks an endpoint with each of them.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phaseflow.errors import ContractError, PhaseflowError

ASKED: Final = 20
"""Questions that an endpoint is asked with each prompt."""
FOLDER: Final = Path(__file__).parent / "prompts"
NAME: Final = re.compile(r"(?P<name>[a-z_]+)\.v(?P<version>\d+)\.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One version of one prompt."""

    name: str
    version: int
    text: str

    @property
    def known_as(self) -> str:
        """For people and tags: name, version, and the first digits of its SHA-256."""
        return f"{self.name} v{self.version} ({hashlib.sha256(self.text.encode()).hexdigest()[:8]})"


def registered(folder: Path = FOLDER) -> tuple[Prompt, ...]:
    """Every prompt, by name and version; raises ContractError for a file that is none."""
    found = []
    for path in sorted(folder.iterdir()):
        match, text = NAME.fullmatch(path.name), path.read_text()
        if match is None or "{instruction}" not in text:
            raise ContractError(
                f"{path.name} is no prompt", fix='Call it "<name>.v<number>.txt", with {instruction} in its text'
            )
        found.append(Prompt(name=match["name"], version=int(match["version"]), text=text))
    return tuple(found)


def newest(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """The newest version of each name: the older ones stay for those who want to know, and are not asked again."""
    latest = {prompt.name: prompt for prompt in sorted(prompts, key=lambda one: one.version)}
    return tuple(latest.values())


def choose(prompts: Sequence[Prompt], score: Callable[[Prompt], float]) -> tuple[Prompt, dict[str, float]]:
    """The prompt with the lowest `score` (perplexity of the right answers), and what each one got."""
    scores = {prompt.known_as: score(prompt) for prompt in prompts}
    return min(prompts, key=lambda one: scores[one.known_as]), scores


def main() -> int:
    """Ask the endpoint that OPENAI_BASE_URL names with every prompt, on a few questions of the sample, and print the table."""
    import numpy as np  # noqa: PLC0415  # the registry alone needs none of these

    from phaseflow import registry  # noqa: PLC0415
    from projects.assistant import data, endpoint, model  # noqa: PLC0415

    rows = data.read(data.sample(0)).drop_nulls("context").head(ASKED)  # no endpoint knows the shop's rules by heart
    try:
        for prompt in newest(registered()):
            said = [endpoint.ask(prompt.text, row) for row in rows.iter_rows(named=True)]
            found = model.evaluate({"text": np.array(said, dtype=object)}, rows, registry.get("assistant"))
            print(f"{prompt.known_as}: token F1 {found['token_f1']:.3f}")
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
