"""Text generation with a language model in a single ONNX file with weights, tokenizer and prompt.

The graph computes the logits (float32 [N, vocabulary]) of the token after `ids` (int64 [N, T]). The metadata of the
file contains the prompt, the tokenizer and the limits of the generation, so that one file with one digest is the whole
model. Training, evaluation and the service all run it through `ready`.
"""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

SETTINGS: Final = "phaseflow.generation"
TOKENIZER: Final = "phaseflow.tokenizer"
IDS, SCORES, TEXT = "ids", "logits", "text"
MAX_BATCH: Final = 64
"""Maximum number of prompts per call of the graph.

They have the same number of tokens, since padding would change the output.
"""
PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")


class LateError(Exception):
    """The deadline passed before every row had a response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the generation."""

    prompt: str
    """Prompt template, with a placeholder `{feature}` for the text of a feature."""
    end: tuple[int, ...]
    """Tokens that end the generated text."""
    max_new_tokens: int = 64
    """Maximum number of generated tokens."""
    max_length: int = 512
    """Maximum number of tokens of the prompt and the generated text. A longer prompt is truncated at its start."""
    deadline_seconds: float = 10.0
    """Time limit for all rows of a request together."""


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output, like `onnxruntime.NodeArg`."""

    name: str


def prompted(prompt: str, row: Mapping[str, str]) -> str:
    """Insert the texts of a row into the prompt. Placeholders within a text are not replaced."""
    return PLACEHOLDER.sub(lambda match: row.get(match[1], ""), prompt)


def metadata(settings: Settings, tokenizer: str) -> dict[str, str]:
    """Create the metadata of a model file; `tokenizer` is the content of a `tokenizer.json`."""
    return {SETTINGS: json.dumps(asdict(settings)), TOKENIZER: tokenizer}


def ready(session: Any) -> Any:
    """Return the session, wrapped in a `Generator` with the same methods if its file contains a language model."""
    properties = session.get_modelmeta().custom_metadata_map
    if SETTINGS not in properties:
        return session
    from tokenizers import Tokenizer  # noqa: PLC0415  # installed only in environments that run such models

    values = json.loads(properties[SETTINGS])
    settings = Settings(**values | {"end": tuple(values["end"])})
    return Generator(session, Tokenizer.from_str(properties[TOKENIZER]), settings)


@dataclass(frozen=True, slots=True)
class Generator:
    """A language model with the interface of an onnxruntime session: texts [N, 1] as inputs, `text` [N] as output."""

    session: Any
    tokenizer: Any
    settings: Settings

    def get_inputs(self) -> list[NodeArg]:
        """The features in the prompt."""
        return [NodeArg(name) for name in dict.fromkeys(PLACEHOLDER.findall(self.settings.prompt))]

    def get_outputs(self) -> list[NodeArg]:
        """The generated text."""
        return [NodeArg(TEXT)]

    def run(self, names: Sequence[str], feeds: Mapping[str, Any], *, hurry: bool = False) -> list[Any]:
        """Compute the outputs `names` for texts [N, 1]. With `hurry`, the deadline applies.

        Raises LateError if the deadline passes before the generation for a row starts. A text in progress is truncated.
        """
        import numpy as np  # noqa: PLC0415

        rows = [
            dict(zip(feeds, values, strict=True))
            for values in zip(*(feed.reshape(-1).tolist() for feed in feeds.values()), strict=True)
        ]
        deadline = time.monotonic() + self.settings.deadline_seconds if hurry else float("inf")
        texts = self.generate([prompted(self.settings.prompt, row) for row in rows], deadline)
        outputs = {TEXT: np.array(texts, dtype=object)}
        return [outputs[name] for name in names]

    def generate(self, prompts: Sequence[str], deadline: float = float("inf")) -> list[str]:
        """Generate a text for each of prompts [N] by greedy decoding."""
        settings = self.settings
        max_prompt = max(settings.max_length - settings.max_new_tokens, 1)
        tokens = [self.tokenizer.encode(prompt).ids[-max_prompt:] for prompt in prompts]
        texts = [""] * len(prompts)
        for indices in _batches(tokens):
            outputs = self._generate_tokens([tokens[index] for index in indices], deadline)
            for index, output in zip(indices, outputs, strict=True):
                texts[index] = self.tokenizer.decode(output).strip()
        return texts

    def _generate_tokens(self, prompts: list[list[int]], deadline: float) -> list[list[int]]:
        """Generate the tokens after prompts [N] of equal length, up to an end token."""
        import numpy as np  # noqa: PLC0415

        if time.monotonic() > deadline:
            raise LateError(f"The deadline of {self.settings.deadline_seconds:g} s came before every row had an answer")
        ids = np.array(prompts, np.int64)
        length = ids.shape[1]
        ended = np.zeros(len(ids), bool)
        for _ in range(self.settings.max_new_tokens):
            (scores,) = self.session.run([SCORES], {IDS: ids})
            token = scores.argmax(axis=1)
            ended |= np.isin(token, self.settings.end)
            ids = np.hstack([ids, token[:, None]])
            if ended.all() or time.monotonic() > deadline:
                break
        return [_truncated(row, self.settings.end) for row in ids[:, length:].tolist()]


def _batches(prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield the indices of prompts of equal length, at most `MAX_BATCH` at a time. Empty prompts are skipped."""
    lengths: dict[int, list[int]] = defaultdict(list)
    for index, ids in enumerate(prompts):
        if ids:
            lengths[len(ids)].append(index)
    for indices in lengths.values():
        yield from (indices[start : start + MAX_BATCH] for start in range(0, len(indices), MAX_BATCH))


def _truncated(tokens: list[int], end: tuple[int, ...]) -> list[int]:
    """The tokens before the first end token."""
    return next((tokens[:index] for index, token in enumerate(tokens) if token in end), tokens)
