"""The assistant's parts: base model, LoRA, prompts, retrieval, endpoint client, and the mirroring of experiments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from phaseflow import DataError, PlatformError, discovery
from phaseflow.errors import ContractError
from phaseflow.generation import prompted
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.testing import Request, Response, http_server
from phaseflow.toolkit import device as devices
from phaseflow.toolkit import experiments, graph, source
from phaseflow.toolkit.draws import drifted
from phaseflow.toolkit.holdout import row_hashes, train_holdout_split
from projects.assistant import ask, base, compare, data, endpoint, model, prompts, retrieval, rules, shop, tuning
from projects.assistant.prompts import Prompt

PROJECT = discovery.get("assistant")
PROMPT = Prompt(name="plain", version=1, text="{context} {instruction} :")
ROWS: list[tuple[str, str | None, str]] = [
    (row["instruction"], None, row["response"]) for row in data.read(data.sample(3)).head(60).iter_rows(named=True)
]


@pytest.fixture(scope="module")
def small() -> base.Base:
    """A base model after a short training."""
    return base.tiny(30, 1, devices.choose(1))


@pytest.fixture(scope="module")
def tuned(small: base.Base) -> tuple[Any, list[float]]:
    """The base model after a short tuning, and the loss of each step."""
    rows = tuning.pairs(ROWS, PROMPT, small, 64)
    settings = tuning.Settings(rank=4, alpha=16, steps=40, rate=0.01, batch=8)
    network, history, _ = tuning.tune(small, rows, settings, seed=1, device=devices.choose(1), log=lambda _: None)
    return network, history


def test_the_exported_model_generates_the_same_texts_as_transformers(
    small: base.Base, tuned: tuple[Any, list[float]]
) -> None:
    content = model.to_onnx(tuned[0], small, PROMPT)
    instructions = [instruction for instruction, _, _ in ROWS[:6]]
    rows = pl.DataFrame({"instruction": instructions, "context": [None] * 6}, schema_overrides={"context": pl.String})
    texts = graph.run(content, graph.feed(rows, PROJECT.schema))["text"].tolist()
    for instruction, text in zip(instructions, texts, strict=True):
        ids = small.tokenizer.encode(prompted(PROMPT.text, {"instruction": instruction})).ids
        generated = tuned[0].generate(
            torch.tensor([ids]),
            max_new_tokens=model.MAX_NEW_TOKENS,
            do_sample=False,
            eos_token_id=small.end,
            pad_token_id=0,
        )
        assert text == small.tokenizer.decode(generated[0, len(ids) :].tolist()).strip()


def test_a_model_in_the_hubs_format_is_loaded_and_a_missing_one_is_replaced(
    small: base.Base, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.model.save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=small.tokenizer, eos_token="<end>").save_pretrained(tmp_path)
    device = devices.choose(1)
    loaded = base.load(str(tmp_path), "main", offline=False, steps=30, seed=1, device=device)
    assert loaded.origin == f"{tmp_path} from the hub"
    assert loaded.end == small.end
    rows = tuning.pairs(ROWS[:5], PROMPT, small, 64)
    assert rows == tuning.pairs(ROWS[:5], PROMPT, loaded, 64)
    assert tuning.perplexity(loaded.model, rows, device) == pytest.approx(tuning.perplexity(small.model, rows, device))
    (tmp_path / "config.json").unlink()
    missing = base.load(str(tmp_path), "main", offline=False, steps=30, seed=1, device=device)
    assert missing.origin.startswith("trained from scratch")
    stderr = capsys.readouterr().err
    assert "is unavailable" in stderr
    assert f"base model: {missing.origin}" in stderr


def test_tuning_learns_and_leaves_the_base_as_it_is(small: base.Base, tuned: tuple[Any, list[float]]) -> None:
    before = {name: weights.clone() for name, weights in small.model.named_parameters()}
    rows, device = tuning.pairs(ROWS, PROMPT, small, 64), devices.choose(1)
    assert np.mean(tuned[1][-5:]) < np.mean(tuned[1][:5]) - 0.2
    assert tuning.perplexity(tuned[0], rows, device) < tuning.perplexity(small.model, rows, device) * 0.9
    assert all(torch.equal(before[name], weights) for name, weights in small.model.named_parameters())
    assert not any("lora" in name for name, _ in tuned[0].named_parameters())  # merged


def test_perplexity_by_hand(small: base.Base) -> None:
    size = small.tokenizer.get_vocab_size()

    class Even(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> Any:
            return type("Output", (), {"logits": torch.zeros(*input_ids.shape, size, device=input_ids.device)})

    perplexity = tuning.perplexity(Even(), tuning.pairs(ROWS, PROMPT, small, 64), devices.choose(1))
    assert perplexity == pytest.approx(size)


def test_only_the_response_is_learned(small: base.Base) -> None:
    ((ids, labels),) = tuning.pairs([("what ?", "a page", "so it is .")], PROMPT, small, 64)
    learned = [label for label in labels if label != base.IGNORED]
    assert len(ids) == len(labels)
    assert learned[-1] == small.end
    assert small.tokenizer.decode(learned[:-1]).strip() == "so it is ."
    assert small.tokenizer.decode(list(ids)).startswith(" a page what ? : so it is .")


def test_only_the_newest_version_of_each_prompt_is_evaluated(tmp_path: Path) -> None:
    for name in ("short.v1.txt", "short.v2.txt", "short.v10.txt", "long.v1.txt"):
        (tmp_path / name).write_text(f"{name} {{instruction}}")
    versions = prompts.load(tmp_path)
    assert len(versions) == 4
    assert {(prompt.name, prompt.version) for prompt in prompts.newest(versions)} == {("short", 10), ("long", 1)}
    best, scores = prompts.choose(versions, lambda prompt: float(-prompt.version))
    assert best.identifier.startswith("short v10 (")
    assert len(scores) == 4
    (tmp_path / "notes.txt").write_text("{instruction}")
    with pytest.raises(ContractError, match=r'notes.txt is not a valid prompt\. Name it "<name>\.v<number>\.txt"'):
        prompts.load(tmp_path)


def test_the_projects_own_prompts_are_valid() -> None:
    assert {prompt.name for prompt in prompts.load()} == {"alpaca", "assistant", "question"}


def test_the_page_of_a_question_is_found() -> None:
    random = np.random.default_rng(1)
    retriever = retrieval.retriever(shop.pages(shop.FURNITURE), max_results=3)
    all_questions = shop.questions(shop.FURNITURE)
    questions = [all_questions[index] for index in random.integers(0, len(all_questions), 30)]
    hits = [
        question.page in {page.page_content for page in retriever.invoke(shop.politely(question.text, random))}
        for question in questions
    ]
    assert np.mean(hits) > 0.6


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The requests to an OpenAI-compatible endpoint on this machine."""
    requests: list[dict[str, Any]] = []

    def respond(request: Request) -> Response:
        requests.append(request.json | {"path": request.path, "key": request.headers["authorization"]})
        status = 200 if request.json["model"] == "small" else 404
        return Response({"choices": [{"message": {"content": " with a soft cloth \n"}}]}, status)

    with http_server(respond) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1/")
        monkeypatch.setenv("OPENAI_API_KEY", "sesame")
        monkeypatch.setenv("OPENAI_MODEL", "small")
        yield requests


def test_a_request_to_an_openai_compatible_endpoint(server: list[dict[str, Any]]) -> None:
    assert endpoint.ask(PROMPT.text, {"instruction": "how ?", "context": None}) == "with a soft cloth"
    (request,) = server
    assert request["path"] == "/v1/chat/completions"
    assert request["key"] == "Bearer sesame"
    assert request["messages"] == [{"role": "user", "content": " how ? :"}]


def test_a_question_is_sent_with_its_help_page(
    server: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask.main(["--endpoint", "how do i clean the lamp ?"]) == 0
    assert capsys.readouterr().out == "page: care of the lamp\nanswer: with a soft cloth\n"
    (request,) = server
    assert (
        "about care of the lamp : clean the lamp with a soft cloth and no soap ." in request["messages"][0]["content"]
    )


def test_each_wording_about_a_product_occurs_once_and_a_third_have_their_page() -> None:
    rows = data.read(data.sample(5))
    by_text = {question.text: question for question in shop.questions(shop.FURNITURE)}
    cores = [next(core for core in by_text if f" {core} " in f" {instruction} ") for instruction in rows["instruction"]]
    assert len(set(cores)) == rows.height
    for core, context, response in zip(cores, rows["context"], rows["response"], strict=True):
        assert context in {None, by_text[core].page}
        assert response == by_text[core].answer
    assert 0.25 < rows["context"].is_not_null().mean() < 0.42  # type: ignore[operator]  # a mean of booleans


def test_every_prompt_is_evaluated_on_the_endpoint_and_a_missing_endpoint_is_an_error(
    server: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compare.main() == 0
    assert len(server) == 3 * compare.QUESTIONS
    assert capsys.readouterr().out.count("token F1") == 3
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert compare.main() == 2
    assert "No endpoint is configured. Set OPENAI_BASE_URL and OPENAI_MODEL" in capsys.readouterr().err


def test_the_error_of_a_failing_or_missing_endpoint_names_a_fix(
    server: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "large")
    with pytest.raises(PlatformError, match=r"/v1/ failed: HTTPStatusError.*Check that the endpoint is running"):
        endpoint.ask(PROMPT.text, {"instruction": "how ?"})
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(PlatformError, match=r"No endpoint is configured\. Set OPENAI_BASE_URL and OPENAI_MODEL"):
        endpoint.ask(PROMPT.text, {"instruction": "how ?"})


def test_experiments_are_mirrored_only_if_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    with experiments.mirrored(PROJECT, PROJECT.candidates[-1]) as log:
        log({"loss": 1.0})
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("WANDB_PROJECT", "mirror")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    with experiments.mirrored(PROJECT, PROJECT.candidates[-1]) as log:
        log({"loss": 1.0})
        log({"loss": 0.5, "perplexity": 3.0})
    assert list(tmp_path.rglob("*.wandb"))


def test_the_real_files_layout_is_read() -> None:
    line = {"instruction": " What? ", "context": "", "response": "That.", "category": "open_qa"}
    rows = data.read((json.dumps(line) + "\n").encode())
    assert rows.rows() == [("What?", None, "That.", "What?")]
    with pytest.raises(DataError, match=r"Line 2 is not an instruction with its response: KeyError\('response'\)"):
        data.read((json.dumps(line) + '\n{"instruction": "a", "context": ""}\n').encode())


def test_the_copied_word_is_the_rarest_common_word_and_becomes_a_blank() -> None:
    questions = [{"how", "clean", "lamp"}, {"how", "clean", "sofa"}, {"how", "are", "you"}]
    responses = [["clean", "the", "lamp"], ["clean", "the", "sofa"], ["fine"]]
    assert rules.copies(questions, responses) == ["lamp", "sofa", ""]
    assert rules.form("Clean the Lamp .", "lamp") == f"Clean the {rules.BLANK} ."
    assert rules.form("fine .", "") == "fine ."
    assert rules.form("lamps are fine .", "lamp") == "lamps are fine ."


def predict(rows: pl.DataFrame, instructions: list[str]) -> list[str]:
    content = rules.fit(rows, PROJECT).onnx
    features = pl.DataFrame(
        {"instruction": instructions, "context": [None] * len(instructions)}, schema_overrides={"context": pl.String}
    )
    return list(graph.run(content, graph.feed(features, PROJECT.schema))["text"].tolist())


def test_form_and_word_answer_new_questions_about_a_product_and_beat_the_nearest_question() -> None:
    rows = data.read(data.sample(3))
    train, rest = rows.head(800), rows.tail(200)
    outputs = {"text": np.array(predict(train, rest["instruction"].to_list()), dtype=object)}
    near = graph.run(model.nearest(train, PROJECT).onnx, graph.feed(rest, PROJECT.schema))
    exact = model.evaluate(outputs, rest, PROJECT)["exact_match"]
    assert exact > model.evaluate(near, rest, PROJECT)["exact_match"] + 0.5
    texts = predict(train, ["how do i clean the zeppelin ?", "", "!?"])
    assert texts[0] == "clean the zeppelin with a soft cloth and no soap ."  # an unknown word is probably the name
    assert texts[1] == texts[2]


def test_responses_without_a_copied_word_are_memorized() -> None:
    rows = pl.DataFrame({"instruction": ["who are you ?"], "response": ["an assistant ."]})
    assert predict(rows, ["and you ?"]) == ["an assistant ."]


def test_the_base_is_one_revision_that_cannot_change() -> None:
    revisions = {candidate.params["revision"] for candidate in PROJECT.candidates if "revision" in candidate.params}
    (revision,) = revisions
    assert len(revision) == 40
    assert set(revision) <= set("0123456789abcdef")


def test_token_f1_by_hand() -> None:
    def token_f1(texts: list[str], labels: list[str]) -> float | None:
        outputs = {"text": np.array(texts, dtype=object)}
        return model.evaluate(outputs, pl.DataFrame({"response": labels}), PROJECT)["token_f1"]

    assert token_f1(["a b c"], ["b c d"]) == pytest.approx(2 / 3)
    assert token_f1(["", "A, b!"], ["a", "a b"]) == pytest.approx(0.5)


def wording(question: str) -> str:
    """A question without its polite opening and ending."""
    begin = max((opening for opening in shop.OPENINGS if question.startswith(opening)), key=len)
    end = max((ending for ending in shop.ENDINGS if question.endswith(ending)), key=len)
    return question[len(begin) : len(question) - len(end)]


def test_no_wording_of_a_holdout_question_is_in_the_training_data_after_drift(tmp_path: Path) -> None:
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})
    original = source.grouped_rows(source.load(PROJECT, settings, Store(settings.store)), PROJECT, settings)
    drifted_rows = drifted(original, PROJECT, np.random.default_rng(1))
    shares = []
    for rows in (drifted_rows.with_columns(_group=pl.Series(row_hashes(drifted_rows, PROJECT))), drifted_rows):
        train, holdout = (
            {wording(text) for text in side["instruction"]} for side in train_holdout_split(rows, PROJECT)
        )
        shares.append(len(holdout & train) / len(holdout))
    assert shares[0] > 0.9  # grouped by row: the polite phrases make every row unique
    assert shares[1] == 0
