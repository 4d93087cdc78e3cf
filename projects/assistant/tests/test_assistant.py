"""What the assistant is made of: its base, LoRA, prompts, retrieval, an endpoint, and the mirror of its experiments."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from phaseflow import DataError, PlatformError, registry
from phaseflow.errors import ContractError
from phaseflow.generation import prompted
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit import device as devices
from phaseflow.toolkit import experiments, graph, source
from phaseflow.toolkit.draws import drifted
from phaseflow.toolkit.holdout import keys, sides
from projects.assistant import ask, base, data, endpoint, model, prompts, retrieval, shop, tuning
from projects.assistant.prompts import Prompt

PROJECT = registry.get("assistant")
PROMPT = Prompt(name="plain", version=1, text="{context} {instruction} :")
ROWS: list[tuple[str, str | None, str]] = [
    (one["instruction"], None, one["response"]) for one in data.read(data.sample(3)).head(60).iter_rows(named=True)
]


@pytest.fixture(scope="module")
def small() -> base.Base:
    """A base that has read little."""
    return base.tiny(30, 1, devices.choose(1))


@pytest.fixture(scope="module")
def tuned(small: base.Base) -> tuple[Any, list[float]]:
    """It, tuned for a moment."""
    rows = tuning.pairs(ROWS, PROMPT, small, 64)
    settings = tuning.Settings(rank=4, alpha=16, steps=40, rate=0.01, batch=8)
    found, history, _ = tuning.tune(small, rows, settings, seed=1, device=devices.choose(1), told=lambda _: None)
    return found, history


def test_the_file_says_what_transformers_says(small: base.Base, tuned: tuple[Any, list[float]]) -> None:
    content = model.to_onnx(tuned[0], small, PROMPT)
    asked = [instruction for instruction, _, _ in ROWS[:6]]
    rows = pl.DataFrame({"instruction": asked, "context": [None] * 6}, schema_overrides={"context": pl.String})
    said = graph.run(content, graph.feed(rows, PROJECT.schema))["text"].tolist()
    for instruction, answer in zip(asked, said, strict=True):
        ids = small.tokenizer.encode(prompted(PROMPT.text, {"instruction": instruction})).ids
        theirs = tuned[0].generate(
            torch.tensor([ids]), max_new_tokens=model.MOST_NEW, do_sample=False, eos_token_id=small.end, pad_token_id=0
        )
        assert answer == small.tokenizer.decode(theirs[0, len(ids) :].tolist()).strip()


def test_a_model_of_the_hubs_form_is_loaded_and_one_that_is_not_there_is_replaced(
    small: base.Base, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.model.save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=small.tokenizer, eos_token="<end>").save_pretrained(tmp_path)
    device = devices.choose(1)
    found = base.load(str(tmp_path), "main", offline=False, steps=30, seed=1, device=device)
    assert found.origin == f"{tmp_path} of the hub"
    assert found.end == small.end
    rows = tuning.pairs(ROWS[:5], PROMPT, small, 64)
    assert rows == tuning.pairs(ROWS[:5], PROMPT, found, 64)
    assert tuning.perplexity(found.model, rows, device) == pytest.approx(tuning.perplexity(small.model, rows, device))
    (tmp_path / "config.json").unlink()
    missing = base.load(str(tmp_path), "main", offline=False, steps=30, seed=1, device=device)
    assert missing.origin.startswith("trained from scratch")
    told = capsys.readouterr().err
    assert "can't be had" in told
    assert f"base model: {missing.origin}" in told


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
            return type("Said", (), {"logits": torch.zeros(*input_ids.shape, size, device=input_ids.device)})

    found = tuning.perplexity(Even(), tuning.pairs(ROWS, PROMPT, small, 64), devices.choose(1))
    assert found == pytest.approx(size)


def test_only_the_response_is_learned(small: base.Base) -> None:
    ((ids, labels),) = tuning.pairs([("what ?", "a page", "so it is .")], PROMPT, small, 64)
    learned = [label for label in labels if label != base.IGNORED]
    assert len(ids) == len(labels)
    assert learned[-1] == small.end
    assert small.tokenizer.decode(learned[:-1]).strip() == "so it is ."
    assert small.tokenizer.decode(list(ids)).startswith(" a page what ? : so it is .")


def test_the_newest_version_of_each_prompt_is_asked(tmp_path: Path) -> None:
    for name in ("short.v1.txt", "short.v2.txt", "short.v10.txt", "long.v1.txt"):
        (tmp_path / name).write_text(f"{name} {{instruction}}")
    found = prompts.registered(tmp_path)
    assert len(found) == 4
    assert {(one.name, one.version) for one in prompts.newest(found)} == {("short", 10), ("long", 1)}
    best, scores = prompts.choose(found, lambda one: float(-one.version))
    assert best.known_as.startswith("short v10 (")
    assert len(scores) == 4
    (tmp_path / "notes.txt").write_text("{instruction}")
    with pytest.raises(ContractError, match=r'notes.txt is no prompt\. Call it "<name>\.v<number>\.txt"'):
        prompts.registered(tmp_path)


def test_the_projects_own_prompts_are_in_order() -> None:
    assert {one.name for one in prompts.registered()} == {"alpaca", "assistant", "question"}


def test_the_page_of_a_question_is_found() -> None:
    random = np.random.default_rng(1)
    find = retrieval.retriever(shop.pages(shop.FURNITURE), most=3)
    every = shop.questions(shop.FURNITURE)
    asked = [every[place] for place in random.integers(0, len(every), 30)]
    hits = [one.page in {page.page_content for page in find.invoke(shop.politely(one.asked, random))} for one in asked]
    assert np.mean(hits) > 0.6


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """An endpoint of OpenAI's form on this machine, and what it was asked."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(body | {"path": self.path, "key": self.headers["Authorization"]})
            status = 200 if body["model"] == "small" else 404
            answer = json.dumps({"choices": [{"message": {"content": " with a soft cloth \n"}}]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    found = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{found.server_port}/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    monkeypatch.setenv("OPENAI_MODEL", "small")
    yield seen
    found.shutdown()
    found.server_close()


def test_any_openai_compatible_endpoint_is_asked(server: list[dict[str, Any]]) -> None:
    assert endpoint.ask(PROMPT.text, {"instruction": "how ?", "context": None}) == "with a soft cloth"
    (seen,) = server
    assert seen["path"] == "/v1/chat/completions"
    assert seen["key"] == "Bearer sesame"
    assert seen["messages"] == [{"role": "user", "content": " how ? :"}]


def test_a_question_is_asked_with_its_page_in_sight(
    server: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask.main(["--endpoint", "how do i clean the lamp ?"]) == 0
    assert capsys.readouterr().out == "page: care of the lamp\nanswer: with a soft cloth\n"
    (seen,) = server
    assert "about care of the lamp : clean the lamp with a soft cloth and no soap ." in seen["messages"][0]["content"]


def test_no_wording_about_a_product_comes_twice_and_a_third_have_their_page() -> None:
    rows = data.read(data.sample(5))
    known = {one.asked: one for one in shop.questions(shop.FURNITURE)}
    cores = [next(core for core in known if f" {core} " in f" {asked} ") for asked in rows["instruction"]]
    assert len(set(cores)) == rows.height
    for core, context, response in zip(cores, rows["context"], rows["response"], strict=True):
        assert context in {None, known[core].page}
        assert response == known[core].answer
    assert 0.25 < rows["context"].is_not_null().mean() < 0.42  # type: ignore[operator]  # of booleans it is a number


def test_every_prompt_is_asked_of_an_endpoint_and_a_missing_one_is_an_error(
    server: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prompts.main() == 0
    assert len(server) == 3 * prompts.ASKED
    assert capsys.readouterr().out.count("token F1") == 3
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert prompts.main() == 2
    assert "No endpoint is set. Set OPENAI_BASE_URL and OPENAI_MODEL" in capsys.readouterr().err


def test_an_endpoint_that_fails_or_is_not_set_says_how_to_mend_it(
    server: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "large")
    with pytest.raises(PlatformError, match=r"gives no answer: HTTPStatusError.*Look whether it runs"):
        endpoint.ask(PROMPT.text, {"instruction": "how ?"})
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(PlatformError, match=r"No endpoint is set\. Set OPENAI_BASE_URL and OPENAI_MODEL"):
        endpoint.ask(PROMPT.text, {"instruction": "how ?"})


def test_experiments_are_mirrored_where_a_setting_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert rows.rows() == [("What?", None, "That.")]
    with pytest.raises(DataError, match=r"Line 2 is not an instruction with its response: KeyError\('response'\)"):
        data.read((json.dumps(line) + '\n{"instruction": "a", "context": ""}\n').encode())


def test_token_f1_by_hand() -> None:
    def token_f1(said: list[str], truths: list[str]) -> float | None:
        told = {"text": np.array(said, dtype=object)}
        return model.evaluate(told, pl.DataFrame({"response": truths}), PROJECT)["token_f1"]

    assert token_f1(["a b c"], ["b c d"]) == pytest.approx(2 / 3)
    assert token_f1(["", "A, b!"], ["a", "a b"]) == pytest.approx(0.5)


def wording(question: str) -> str:
    """A question without how it begins and ends."""
    begin = max((one for one in shop.OPENINGS if question.startswith(one)), key=len)
    end = max((one for one in shop.ENDINGS if question.endswith(one)), key=len)
    return question[len(begin) : len(question) - len(end)]


def test_no_wording_of_a_held_out_question_is_trained_on_after_the_world_drifted(tmp_path: Path) -> None:
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})
    known = source.grouped_rows(source.load(PROJECT, settings, Store(settings.store)), PROJECT, settings)
    played = drifted(known, PROJECT, np.random.default_rng(1))
    shares = []
    for rows in (played.with_columns(_group=pl.Series(keys(played, PROJECT))), played):
        train, held = ({wording(text) for text in side["instruction"]} for side in sides(rows, PROJECT))
        shares.append(len(held & train) / len(held))
    assert shares[0] > 0.9  # each row by itself, as politely as it was asked
    assert shares[1] == 0
