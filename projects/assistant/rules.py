"""Templates: each response is a form with a blank, and a word of the question fills the blank.

A bag of words chooses the form: that of the class whose mean question is nearest (Rocchio, Relevance Feedback in
Information Retrieval, 1971). The word is the one with the highest copy rate in the training questions. A word that no
training question contains is probably a name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from onnx import TensorProto, helper

from phaseflow import Project
from phaseflow.toolkit import bag, graph, texts
from phaseflow.toolkit.model import Trained

BLANK: Final = "\x00"
"""Marks the blank in a form; it occurs in no text."""
MAX_FORMS: Final = 500
MAX_WORDS: Final = 2000
MIN_DF: Final = 3
"""Number of questions from which a word's own copy rate outweighs the prior `UNKNOWN`."""
UNKNOWN: Final = 0.5
"""Assumed copy rate of a word that does not occur in training."""


def fit(rows: pl.DataFrame, project: Project) -> Trained:
    """Learn the forms and the copy rates from rows [N] of instructions and responses."""
    questions = [set(tokens) - {texts.BEGIN, texts.END} for tokens in texts.words(rows["instruction"])]
    copied_words = copies(questions, texts.words(rows["response"]))
    forms = [form(response, word) for response, word in zip(rows["response"], copied_words, strict=True)]
    common_forms = [name for name, _ in Counter(forms).most_common(MAX_FORMS)]
    counts, words, idf = bag.counted(rows["instruction"], max_features=MAX_WORDS)
    form_ids = np.array(
        [common_forms.index(response_form) if response_form in common_forms else -1 for response_form in forms]
    )
    means = np.array([np.asarray(counts[form_ids == index].mean(axis=0)).ravel() for index in range(len(common_forms))])
    return Trained(
        onnx=to_onnx(project, words, idf, means, common_forms, shares(questions, copied_words)),
        notes={
            "forms of answers": f"{len(common_forms):,}",
            "words that are copied": f"{len(set(copied_words) - {''}):,}",
        },
    )


def copies(questions: Sequence[set[str]], responses: Sequence[Sequence[str]]) -> list[str]:
    """Return the copied word of each question [N]: the rarest word that its response shares, or "" if there is none."""
    frequency = Counter(word for question in questions for word in question)
    shared = [question & set(answer) for question, answer in zip(questions, responses, strict=True)]
    return [min(words, key=lambda word: (frequency[word], word), default="") for words in shared]


def form(response: str, word: str) -> str:
    """Return the response with the first occurrence of the copied word replaced by the blank."""
    if not word:
        return response
    start = f" {response.lower()} ".find(f" {word} ")
    return response if start < 0 else f"{response[:start]}{BLANK}{response[start + len(word) :]}"


def shares(questions: Sequence[set[str]], copied_words: Sequence[str]) -> dict[str, float]:
    """Return each word's copy rate: the share of the questions [N] with the word in which it is the copied one.

    The rates of rare words are shrunk towards `UNKNOWN`.
    """
    occurrences = Counter(word for question in questions for word in question)
    copy_counts = Counter(copied_words)
    return {word: (copy_counts[word] + UNKNOWN * MIN_DF) / (count + MIN_DF) for word, count in occurrences.items()}


def to_onnx(
    project: Project, words: list[list[str]], idf: object, means: object, forms: list[str], copy_rates: dict[str, float]
) -> bytes:
    """Build the graph that chooses the form and the word, and joins them to one text."""
    nodes, constants = bag.counting("instruction", words, idf)
    marks = {texts.BEGIN: -1.0, texts.END: -1.0, texts.PAD: -1.0}  # the words are between them
    weights = copy_rates | marks
    parts = [response_form.partition(BLANK) for response_form in forms]
    nodes += [
        helper.make_node("MatMul", ["bag", "means"], ["closeness"]),
        helper.make_node("ArgMax", ["closeness"], ["form"], axis=1, keepdims=0),
        helper.make_node(
            "LabelEncoder",
            ["words"],
            ["copy_rates"],
            domain="ai.onnx.ml",
            keys_strings=list(weights),
            values_floats=list(weights.values()),
            default_float=UNKNOWN,
        ),
        helper.make_node("ArgMax", ["copy_rates"], ["position"], axis=1, keepdims=1),
        helper.make_node("GatherElements", ["words", "position"], ["word"], axis=1),
        helper.make_node("Gather", ["blanks", "form"], ["has_blank"]),
        helper.make_node("Reshape", ["word", "flat_rows"], ["name"]),
        helper.make_node("Where", ["has_blank", "name", "nothing"], ["filling"]),
        helper.make_node("Gather", ["before", "form"], ["begin"]),
        helper.make_node("Gather", ["after", "form"], ["end"]),
        helper.make_node("StringConcat", ["begin", "filling"], ["begun"]),
        helper.make_node("StringConcat", ["begun", "end"], ["text"]),
    ]
    constants += [
        graph.constant("means", np.asarray(means).T.astype(np.float32)),
        graph.constant("blanks", np.array([bool(blank) for _, blank, _ in parts])),
        graph.constant("before", np.array([before for before, _, _ in parts], dtype=object)),
        graph.constant("after", np.array([after for _, _, after in parts], dtype=object)),
        graph.constant("nothing", np.array([""], dtype=object)),
        graph.constant("flat_rows", np.array([-1], np.int64)),
    ]
    out = helper.make_tensor_value_info("text", TensorProto.STRING, [None])
    return graph.build_model(project.schema, nodes, constants, [out], opset=20)
