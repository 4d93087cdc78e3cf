"""A language model as one ONNX file that answers with texts: the loop over its graph, and its tokenizer beside the weights.

The graph gives scores (logits, float32 [N, vocabulary]) for the token after `ids` (int64 [N, T]). Which features become the ids, by
which prompt and tokenizer, and how far the loop may go, is written in the file's metadata: one file and one digest is the whole
model. Training, evaluation and the service all run it by `ready`.
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
TOGETHER: Final = 64
"""Rows that go through the graph at once, where their prompts have the same number of tokens: padding would change the answer."""
PLACE: Final = re.compile(r"\{(\w+)\}")


class LateError(Exception):
    """The deadline came before every row had an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What turns a graph of scores into answers."""

    prompt: str
    """With `{feature}` where a feature's text belongs."""
    end: tuple[int, ...]
    """Tokens that end an answer."""
    most_new: int = 64
    """Tokens of an answer."""
    most: int = 512
    """Tokens of prompt and answer; a longer prompt loses its beginning."""
    deadline_seconds: float = 10.0
    """For a request's rows, all of them together."""


@dataclass(frozen=True, slots=True)
class Named:
    """An input or output, as a session tells of it."""

    name: str


def prompted(prompt: str, row: Mapping[str, str]) -> str:
    """The prompt with a row's texts in their places; what stands in a text is never taken for a place."""
    return PLACE.sub(lambda found: row.get(found[1], ""), prompt)


def metadata(settings: Settings, tokenizer: str) -> dict[str, str]:
    """What a model's file says of itself; `tokenizer` is the content of a `tokenizer.json`."""
    return {SETTINGS: json.dumps(asdict(settings)), TOKENIZER: tokenizer}


def ready(session: Any) -> Any:
    """The session itself, or where its file holds a language model, a `Generator` of the same methods."""
    about = session.get_modelmeta().custom_metadata_map
    if SETTINGS not in about:
        return session
    from tokenizers import Tokenizer  # noqa: PLC0415  # a library of those environments alone that run such models

    told = json.loads(about[SETTINGS])
    settings = Settings(**told | {"end": tuple(told["end"])})
    return Generator(session, Tokenizer.from_str(about[TOKENIZER]), settings)


@dataclass(frozen=True, slots=True)
class Generator:
    """A language model with the face of an onnxruntime session: texts [N, 1] in, `text` [N] out."""

    session: Any
    tokenizer: Any
    settings: Settings

    def get_inputs(self) -> list[Named]:
        """The features that the prompt names."""
        return [Named(name) for name in dict.fromkeys(PLACE.findall(self.settings.prompt))]

    def get_outputs(self) -> list[Named]:
        """The one text."""
        return [Named(TEXT)]

    def run(self, names: Sequence[str], feeds: Mapping[str, Any], *, hurry: bool = False) -> list[Any]:
        """The outputs `names` for texts [N, 1]; with `hurry` the deadline holds.

        Raises LateError where a row has not even begun by then; an answer that has is cut.
        """
        import numpy as np  # noqa: PLC0415

        rows = [
            dict(zip(feeds, texts, strict=True))
            for texts in zip(*(feed.reshape(-1).tolist() for feed in feeds.values()), strict=True)
        ]
        until = time.monotonic() + self.settings.deadline_seconds if hurry else float("inf")
        said = self.answers([prompted(self.settings.prompt, row) for row in rows], until)
        outputs = {TEXT: np.array(said, dtype=object)}
        return [outputs[name] for name in names]

    def answers(self, prompts: Sequence[str], until: float = float("inf")) -> list[str]:
        """What the model says after each of prompts [N], by taking the likeliest token again and again."""
        settings = self.settings
        room = max(settings.most - settings.most_new, 1)
        asked = [self.tokenizer.encode(prompt).ids[-room:] for prompt in prompts]
        found = [""] * len(prompts)
        for places in _alike(asked):
            ids = self._continued([asked[place] for place in places], until)
            for place, answer in zip(places, ids, strict=True):
                found[place] = self.tokenizer.decode(answer).strip()
        return found

    def _continued(self, prompts: list[list[int]], until: float) -> list[list[int]]:
        """The tokens after prompts [N] of one length, each up to its end."""
        import numpy as np  # noqa: PLC0415

        if time.monotonic() > until:
            raise LateError(f"The deadline of {self.settings.deadline_seconds:g} s came before every row had an answer")
        ids = np.array(prompts, np.int64)
        length = ids.shape[1]
        ended = np.zeros(len(ids), bool)
        for _ in range(self.settings.most_new):
            (scores,) = self.session.run([SCORES], {IDS: ids})
            token = scores.argmax(axis=1)
            ended |= np.isin(token, self.settings.end)
            ids = np.hstack([ids, token[:, None]])
            if ended.all() or time.monotonic() > until:
                break
        return [_ended(row, self.settings.end) for row in ids[:, length:].tolist()]


def _alike(asked: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of rows of equal length, at most `TOGETHER` at a time; those without a token are left out."""
    lengths: dict[int, list[int]] = defaultdict(list)
    for place, ids in enumerate(asked):
        if ids:  # to nothing there is nothing to say
            lengths[len(ids)].append(place)
    for places in lengths.values():
        yield from (places[at : at + TOGETHER] for at in range(0, len(places), TOGETHER))


def _ended(tokens: list[int], end: tuple[int, ...]) -> list[int]:
    """Those before the first that ends an answer."""
    return next((tokens[:place] for place, token in enumerate(tokens) if token in end), tokens)
