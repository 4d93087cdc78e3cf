"""Promotion and rollback against a real MLflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from phaseflow import PermanentError, discovery, events
from phaseflow.settings import ROOT, Settings
from phaseflow.store import Store
from services.registry import promotion
from services.registry.__main__ import main

TITANIC = discovery.get("titanic")


@pytest.fixture
def client(settings: Settings) -> MlflowClient:
    """A registry in which titanic has versions 1 to 4: passed, passed, failed, passed."""
    client = MlflowClient(settings.mlflow_url)
    if client.search_registered_models(f"name = '{TITANIC.name}'"):
        client.delete_registered_model(TITANIC.name)
    client.create_registered_model(TITANIC.name)
    run = client.create_run("0")
    for verdict in ("passed", "passed", "failed", "passed"):
        source = f"{run.info.artifact_uri}/model"
        client.create_model_version(TITANIC.name, source, run.info.run_id, tags={"phaseflow.verdict": verdict})
    return client


def aliases(client: MlflowClient) -> dict[str, str]:
    return {k: str(v) for k, v in client.get_registered_model(TITANIC.name).aliases.items()}


def test_promotion_is_idempotent_and_rollback_restores(client: MlflowClient, settings: Settings) -> None:
    assert promotion.promote(client, settings, TITANIC, "1")["changed"]
    assert promotion.promote(client, settings, TITANIC, "2") == {
        "project": "titanic",
        "version": "2",
        "previous": "1",
        "changed": True,
    }
    assert not promotion.promote(client, settings, TITANIC, "2")["changed"]
    assert aliases(client) == {"champion": "2", "previous": "1"}
    assert promotion.rollback(client, settings, TITANIC)["version"] == "1"
    assert aliases(client) == {"champion": "1", "previous": "2"}
    kinds = [event["type"].rsplit(".", 1)[1] for event in events.read(Store(settings.store), "titanic")]
    assert kinds == ["promotion", "promotion", "rollback"]


def test_the_challenger_is_the_default(client: MlflowClient, settings: Settings) -> None:
    client.set_registered_model_alias(TITANIC.name, "challenger", "4")
    assert promotion.promote(client, settings, TITANIC)["version"] == "4"
    assert aliases(client) == {"champion": "4"}


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("3", r"Version 3 of titanic did not pass the gate \(verdict: failed\)\. .* with `--force`"),
        ("9", r"titanic has no version '9'\. List them with `python -m services\.registry versions --project titanic`"),
        (None, r"titanic has no challenger\. Train one with `phaseflow run titanic`"),
    ],
)
def test_an_error_names_the_version_that_may_not_be_promoted(
    client: MlflowClient, settings: Settings, version: str | None, text: str
) -> None:
    with pytest.raises(PermanentError, match=text):
        promotion.promote(client, settings, TITANIC, version)
    assert aliases(client) == {}


def test_force_promotes_what_the_gate_refused(client: MlflowClient, settings: Settings) -> None:
    assert promotion.promote(client, settings, TITANIC, "3", force=True)["changed"]


def test_an_older_version_does_not_replace_a_newer_champion(client: MlflowClient, settings: Settings) -> None:
    promotion.promote(client, settings, TITANIC, "4")
    with pytest.raises(PermanentError, match="Version 2 of titanic is older than the champion, version 4"):
        promotion.promote(client, settings, TITANIC, "2")


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of `python -m services.registry`, with an MLflow client that does not retry."""
    monkeypatch.setenv("PHASEFLOW_HOME", str(settings.home))
    monkeypatch.setenv("PHASEFLOW_MLFLOW_URL", settings.mlflow_url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return monkeypatch


def test_a_refused_request_exits_with_2(
    client: MlflowClient, command: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, text in (
        (["promote", "--project", "titanic", "--version", "3"], "did not pass the gate"),
        (["promote", "--project", "titanic", "--version", "9"], "has no version '9'"),
        (["promote", "--project", "titanic"], "has no challenger"),
        (["rollback", "--project", "titanic"], "has no previous champion"),
        (["promote", "--project", "nothing"], "There is no project 'nothing'"),
    ):
        assert main(arguments) == 2
        assert text in capsys.readouterr().err
    assert aliases(client) == {}


def test_a_temporary_failure_exits_with_1_and_a_retry_completes_it(
    client: MlflowClient, settings: Settings, command: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    promotion.promote(client, settings, TITANIC, "1")
    arguments = ["promote", "--project", "titanic", "--version", "2"]
    with command.context() as patch, Store(settings.store).lock("promotion-titanic"):
        patch.setattr(promotion, "PATIENCE", 0.1)
        assert main(arguments) == 1
        assert "Another process has held the lock" in capsys.readouterr().err
    with command.context() as patch:
        patch.setenv("PHASEFLOW_MLFLOW_URL", "http://127.0.0.1:9")
        assert main(arguments) == 1
        assert "Start it (`phaseflow up`) and retry." in capsys.readouterr().err
    assert aliases(client) == {"champion": "1"}
    assert main(arguments) == 0
    assert aliases(client) == {"champion": "2", "previous": "1"}


def test_two_promotions_at_once_have_one_winner(client: MlflowClient, settings: Settings, tmp_path: Path) -> None:
    environment = os.environ | {
        "PHASEFLOW_HOME": str(settings.home),
        "PHASEFLOW_MLFLOW_URL": settings.mlflow_url,
        "PYTHONPATH": str(ROOT),
    }
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "services.registry", "promote", "--project", "titanic", "--version", version],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for version in ("2", "4", "2", "4")
    ]
    ended = [(child.communicate(timeout=120), child.returncode) for child in children]
    assert {code for _, code in ended} <= {0, 2}
    result = aliases(client)
    assert result["champion"] == "4"  # whichever came first, the newer one stays
    assert result.get("previous") in {None, "2"}
    changed = [
        json.loads(output)["version"] for (output, _), code in ended if code == 0 and json.loads(output)["changed"]
    ]
    assert changed.count("4") == 1
    assert changed.count("2") <= 1
