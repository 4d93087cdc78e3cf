"""Sentences about films, made by a small grammar: what the lesson needs is in them, and nothing of a real critic.

The order of the words matters in half of them ("dull at first, but the ending is a delight"), which is what a bag of words can't see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Lexicon:
    """The words of one kind of writer."""

    subjects: tuple[str, ...]
    good: tuple[str, ...]
    bad: tuple[str, ...]
    degrees: tuple[str, ...]
    fillers: tuple[str, ...]
    plain: tuple[str, ...]
    """Sentences that say what they mean, of `{a}` (a subject), `{v}` (how much) and `{x}` (what it is)."""
    negated: tuple[str, ...]
    """Sentences that deny `{y}`, the opposite of what they mean."""
    turned: tuple[str, ...]
    """Sentences that say both, and end with what they mean."""


def listed(text: str) -> tuple[str, ...]:
    """The parts of a text between its bars."""
    return tuple(text.split("|"))


CRITIC: Final = Lexicon(
    subjects=listed(
        "the plot|the cast|the direction|the dialogue|the score|the photography|the editing|the ending|the lead performance|"
        "the humor|the pacing|this thriller|this comedy|this drama|the sequel|the debut|the script|the romance"
    ),
    good=listed(
        "moving|witty|gripping|elegant|charming|fresh|tender|inventive|graceful|absorbing|warm|clever|luminous|honest|"
        "delightful|rich|sharp|touching|hilarious|masterful"
    ),
    bad=listed(
        "dull|clumsy|tedious|lifeless|hollow|stale|shallow|sloppy|bland|pretentious|tiresome|forced|predictable|flat|"
        "muddled|dreary|contrived|lazy|grating|pointless"
    ),
    degrees=("", "quite", "often", "surprisingly", "thoroughly", "always", "truly"),
    fillers=(
        "in the end",
        "from start to finish",
        "for two hours",
        "as a whole",
        "to its last frame",
        "all the same",
        "",
    ),
    plain=(
        "{a} is {v} {x} {f}",
        "{x} and {x2} , {a} stays in the mind {f}",
        "what a {x} film : {a} is {v} {x2}",
        "i found {a} {v} {x} and {x2}",
        "{f} {a} feels {v} {x}",
    ),
    negated=("{a} is not {y} at all {f}", "{a} is never {y} , whatever they say", "nobody could call {a} {y} {f}"),
    turned=(
        "{a} is {y} at first , but {a2} is {v} {x}",
        "although {a} seems {y} , {a2} turns out {v} {x} {f}",
        "they promise a {y} film , and it is {v} {x} {f}",
        "i expected something {y} , yet {a} is {x} {f}",
    ),
)

FAN: Final = Lexicon(
    subjects=listed(
        "this show|ep 3|the finale|season two|the villain arc|that plot twist|the cgi|the soundtrack|the main couple|the reboot|"
        "the fandom|this anime|the crossover|the pilot"
    ),
    good=listed("fire|peak|goated|iconic|wholesome|elite|lit|unreal|slaying|based|chefs kiss|legendary"),
    bad=listed("mid|cringe|trash|cursed|a flop|a snoozefest|sus|lame|basic|a hot mess|mid af|dead"),
    degrees=("", "lowkey", "highkey", "literally", "straight up", "kinda"),
    fillers=("ngl", "tbh", "lol", "no cap", "fr fr", "imo", "smh", "omg"),
    plain=("{a} was {v} {x} {f}", "omg {a} is {x} {f}", "just binged it , {a} is {v} {x}", "{f} {a} {v} {x}"),
    negated=("{a} aint {y} {f}", "stop saying {a} is {y} {f}"),
    turned=("{a} started {y} but now its {v} {x} {f}", "thought {a} would be {y} , nope , {x} {f}"),
)

SHARES: Final = (0.5, 0.13, 0.37)
"""Of plain, negated and turned sentences."""


def sentences(friendly: Sequence[bool], words: Lexicon, random: np.random.Generator) -> list[str]:
    """One sentence for each of `friendly` [N]: whether it means well."""
    return [sentence(bool(one), words, random) for one in friendly]


def sentence(friendly: bool, words: Lexicon, random: np.random.Generator) -> str:
    """One sentence that means well, or not."""

    def one(choices: tuple[str, ...]) -> str:
        return choices[random.integers(len(choices))]

    meant, opposite = (words.good, words.bad) if friendly else (words.bad, words.good)
    kind = (words.plain, words.negated, words.turned)[random.choice(3, p=SHARES)]
    made = one(kind).format(
        a=one(words.subjects),
        a2=one(words.subjects),
        v=one(words.degrees),
        x=one(meant),
        x2=one(meant),
        y=one(opposite),
        f=one(words.fillers),
    )
    return " ".join(made.split())
