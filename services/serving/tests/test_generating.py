"""Texts that a language model generates word by word: the loop and its limits."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from services.serving.tests.conftest import VENVS, Serving, cached, until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service with both models in its cache; MLflow is unreachable."""
    with cached(tmp_path_factory, "generating.py", ("speaks", "too_late")) as serving:
        yield serving


def generate(service: Serving, **row: Any) -> str:
    response = service.post("/speaks/predict", json=row)
    assert response.status_code == 200, response.text
    return str(response.json()["predictions"][0]["text"])


def test_it_writes_until_its_end(service: Serving) -> None:
    assert generate(service, asked="hello") == "good day"
    assert generate(service, asked="good") == "day"


def test_it_stops_at_its_limit(service: Serving) -> None:
    assert generate(service, asked="again") == "again again again again again"


def test_only_the_last_words_of_a_long_text_are_read(service: Serving) -> None:
    assert generate(service, asked="again " * 5000 + "hello") == "good day"


def test_what_stands_in_a_text_is_no_place_of_the_prompt(service: Serving) -> None:
    assert generate(service, asked="{context}", context="hello") == ""  # "?" is followed by the end
    assert generate(service, asked="hello", context=None) == "good day"


def test_rows_of_any_length_are_answered_as_if_alone(service: Serving) -> None:
    texts = ["hello", "good", "again", "", "hello hello", "good again", "nobody knows"] * 30
    alone = {text: generate(service, asked=text) for text in set(texts) if text}
    response = service.post("/speaks/predict", json={"rows": [{"asked": text} for text in texts]}).json()
    for text, prediction in zip(texts, response["predictions"], strict=True):
        assert prediction["text"] == alone.get(text, "")


def test_its_answers_are_logged_and_their_label_is_welcome(service: Serving) -> None:
    response = service.post("/speaks/predict", json={"asked": "hello"}).json()
    identity = response["predictions"][0]["id"]
    feedback = service.post("/speaks/feedback", json={"labels": [{"id": identity, "label": "good evening"}]})
    assert feedback.json() == {"accepted": 1}
    row = until(lambda: service.logged(project="speaks").rows_by_key("id", named=True, unique=True).get(identity))
    assert row["prediction"] == "good day"


def test_after_the_deadline_it_says_so(service: Serving) -> None:
    response = service.post("/too_late/predict", json={"asked": "hello"})
    assert response.status_code == 503
    assert response.json()["error"] == {
        "field": "",
        "problem": "The deadline of 0 s came before every row had an answer",
        "fix": "Send fewer rows, or shorter texts.",
    }


def test_the_service_has_no_torch() -> None:
    completed = subprocess.run(
        [VENVS / "serving" / "bin" / "python", "-c", "import importlib.util as u; print(u.find_spec('torch'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert completed.stdout.strip() == "None"
