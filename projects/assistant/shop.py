"""A synthetic shop: its help pages, and its customers' questions.

The base model is trained on the shop's handbook; how to answer, it learns from the questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic of questions; `{p}` stands for a product."""

    title: str
    rule: str
    """The correct response."""
    wordings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """The products of a shop, and the topics of the questions about them."""

    products: tuple[str, ...]
    topics: tuple[Topic, ...]


FURNITURE: Final = Shop(
    products=(
        *("lamp", "sofa", "chair", "table", "desk", "bed", "shelf", "mirror", "carpet", "curtain", "clock", "vase"),
        *(
            "bench",
            "drawer",
            "pillow",
            "blanket",
            "stool",
            "frame",
            "candle",
            "basket",
            "oven",
            "kettle",
            "toaster",
            "pan",
        ),
        *("knife", "bowl", "plate", "mug", "spoon", "tray", "ladder", "hammer", "drill", "saw", "bucket", "broom"),
        *("tent", "rope", "torch", "stove", "hammock", "cushion", "lantern", "rug", "poster", "plant", "pot", "hose"),
        *("swing", "slide", "doll", "puzzle", "kite", "drum", "piano", "guitar", "easel", "globe", "radio", "fan"),
    ),
    topics=(
        Topic(
            title="returns",
            rule="fill in the form and send the {p} back within thirty days",
            wordings=(
                "how do i return the {p}",
                "i do not like the {p}",
                "can i send the {p} back",
                "i want to give the {p} back",
            ),
        ),
        Topic(
            title="damage",
            rule="send us a picture of the {p} and we bring a new one",
            wordings=(
                "the {p} is broken",
                "my {p} came with a scratch",
                "what if the {p} is damaged",
                "the {p} has a crack",
            ),
        ),
        Topic(
            title="delivery",
            rule="the {p} leaves our store on monday and takes four days",
            wordings=(
                "when does the {p} arrive",
                "where is my {p}",
                "how long does the {p} take",
                "the {p} is not here yet",
            ),
        ),
        Topic(
            title="payment",
            rule="you may pay the {p} by card or in six parts",
            wordings=(
                "how can i pay the {p}",
                "can i pay the {p} later",
                "do you take cards for the {p}",
                "the {p} in parts please",
            ),
        ),
        Topic(
            title="warranty",
            rule="we mend the {p} for free during two years",
            wordings=(
                "is there a warranty on the {p}",
                "who mends the {p}",
                "how long is the {p} covered",
                "does the warranty of the {p} end",
            ),
        ),
        Topic(
            title="care",
            rule="clean the {p} with a soft cloth and no soap",
            wordings=(
                "how do i clean the {p}",
                "may i wash the {p}",
                "there is a stain on the {p}",
                "how do i care for the {p}",
            ),
        ),
    ),
)

CYCLES: Final = Shop(
    products=(
        *(
            "scooter",
            "helmet",
            "e-bike",
            "trailer",
            "saddle",
            "charger",
            "battery",
            "tricycle",
            "handlebar",
            "child seat",
        ),
        *("gravel bike", "folding bike"),
    ),
    topics=(
        Topic(
            title="subscription",
            rule="open the app, choose your {p} and press pause",
            wordings=("cancel the subscription of my {p}", "stop billing me for the {p}", "i no longer rent the {p}"),
        ),
        Topic(
            title="theft",
            rule="report the {p} to the police and upload their number",
            wordings=(
                "somebody stole my {p}",
                "the {p} was taken from the station",
                "is the {p} insured against theft",
            ),
        ),
        Topic(
            title="software",
            rule="hold the button of the {p} until it blinks twice",
            wordings=("the {p} does not connect", "how do i update the {p}", "bluetooth of the {p} fails"),
        ),
        Topic(
            title="inspection",
            rule="book a mechanic for the {p} in the app, it costs nothing",
            wordings=("the brakes of the {p} squeak", "when is the {p} inspected", "who checks the {p}"),
        ),
    ),
)

OPENINGS: Final = ("", "hello , ", "good morning , ", "excuse me , ", "quick question : ", "sorry , ")
ENDINGS: Final = (" ?", " , please ?", " , thanks .", " .", " , what now ?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, and its correct response."""

    text: str
    answer: str
    topic: str
    page: str
    """The text of the help page that contains the response."""


def page(topic: Topic, product: str) -> tuple[str, str]:
    """Return title and text of the help page about a product's topic."""
    title = f"{topic.title} of the {product}"
    return title, f"about {title} : {topic.rule.format(p=product)} ."


def pages(shop: Shop) -> Iterator[tuple[str, str]]:
    """Yield title and text of every help page: one per topic and product."""
    for topic in shop.topics:
        for product in shop.products:
            yield page(topic, product)


def questions(shop: Shop) -> list[Question]:
    """Return every wording of every topic for every product, once."""
    return [
        Question(
            text=wording.format(p=product),
            answer=f"{topic.rule.format(p=product)} .",
            topic=topic.title,
            page=page(topic, product)[1],
        )
        for topic in shop.topics
        for product in shop.products
        for wording in topic.wordings
    ]


def politely(question: str, random: np.random.Generator) -> str:
    """Add a random polite opening and ending to a question."""
    return f"{OPENINGS[random.integers(len(OPENINGS))]}{question}{ENDINGS[random.integers(len(ENDINGS))]}"


def handbook(shops: Sequence[Shop], random: np.random.Generator, count: int) -> Iterator[str]:
    """Yield `count` handbook entries to train the tiny base model: a product and three of its rules in random order."""
    for number in range(count):
        shop = shops[number % len(shops)]
        product = shop.products[random.integers(len(shop.products))]
        topics = [shop.topics[index] for index in random.permutation(len(shop.topics))[:3]]
        rules = " ".join(f"{topic.title} : {topic.rule.format(p=product)} ." for topic in topics)
        yield f"{product} . {rules}"
