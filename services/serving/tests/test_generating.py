"""Texts that a language model writes word by word: its loop, its limits, and that nobody else waits for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from services.serving.tests.conftest import VENVS, Serving, cached, until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service that has both models in its cache; MLflow is away."""
    with cached(tmp_path_factory, "generating.py", ("speaks", "too_late")) as found:
        yield found


def said(service: Serving, **row: Any) -> str:
    answer = service.post("/speaks/predict", json=row)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["predictions"][0]["text"])


def test_it_writes_until_its_end(service: Serving) -> None:
    assert said(service, asked="hello") == "good day"
    assert said(service, asked="good") == "day"


def test_it_stops_at_its_limit(service: Serving) -> None:
    assert said(service, asked="again") == "again again again again again"


def test_only_the_last_words_of_a_long_text_are_read(service: Serving) -> None:
    assert said(service, asked="again " * 5000 + "hello") == "good day"


def test_what_stands_in_a_text_is_no_place_of_the_prompt(service: Serving) -> None:
    assert said(service, asked="{context}", context="hello") == ""  # "?" is followed by the end
    assert said(service, asked="hello", context=None) == "good day"


def test_rows_of_any_length_are_answered_as_if_alone(service: Serving) -> None:
    asked = ["hello", "good", "again", "", "hello hello", "good again", "nobody knows"] * 30
    alone = {text: said(service, asked=text) for text in set(asked) if text}
    answer = service.post("/speaks/predict", json={"rows": [{"asked": text} for text in asked]}).json()
    for text, found in zip(asked, answer["predictions"], strict=True):
        assert found["text"] == alone.get(text, "")


def test_its_answers_are_logged_and_their_truth_is_welcome(service: Serving) -> None:
    answer = service.post("/speaks/predict", json={"asked": "hello"}).json()
    identity = answer["predictions"][0]["id"]
    told = service.post("/speaks/feedback", json={"truths": [{"id": identity, "truth": "good evening"}]})
    assert told.json() == {"accepted": 1}
    row = until(lambda: service.logged(project="speaks").rows_by_key("id", named=True, unique=True).get(identity))
    assert row["prediction"] == "good day"


def test_after_the_deadline_it_says_so(service: Serving) -> None:
    answer = service.post("/too_late/predict", json={"asked": "hello"})
    assert answer.status_code == 503
    assert answer.json()["error"] == {
        "field": "",
        "problem": "The deadline of 0 s came before every row had an answer",
        "fix": "Send fewer rows, or shorter texts.",
    }


def test_the_service_has_no_torch() -> None:
    done = subprocess.run(
        [VENVS / "serving" / "bin" / "python", "-c", "import importlib.util as u; print(u.find_spec('torch'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "None"
