"""Errors of `bin/cloud`. Programs of the clouds are stand-ins that end with a status: no account can be reached from a test."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from phaseflow.settings import ROOT

TOOLS = ("terraform", "kubectl", "helm", "aws", "gcloud", "docker")
SYSTEM = ("dirname", "sed", "awk", "curl", "openssl")
"""Programs of the machine that the script calls. Its others, such as docker, are not on the PATH of the tests."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the script and the environments, and a folder of stand-ins."""
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / "bin" / "cloud", tmp_path / "bin" / "cloud")
    (tmp_path / "terraform" / "envs" / "aws" / "small").mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    for tool in TOOLS:
        stand_in(tmp_path, tool, "exit 0")
    for name in SYSTEM:
        (tmp_path / "tools" / name).symlink_to(shutil.which(name) or name)
    return tmp_path


def stand_in(checkout: Path, tool: str, script: str) -> None:
    path = checkout / "tools" / tool
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def error(checkout: Path, *arguments: str) -> str:
    environment = {"PATH": str(checkout / "tools"), "HOME": os.environ["HOME"]}
    completed = subprocess.run(
        [checkout / "bin" / "cloud", *arguments], env=environment, capture_output=True, text=True
    )
    assert completed.returncode == 2, completed.stdout + completed.stderr
    return completed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say what to do: bin/cloud up|down aws|gcp [small|production], or `make cloud CLOUD=aws ENV=small`."),
        (("up", ""), '"" is no cloud of this project: set CLOUD to aws or gcp.'),
        (("up", "azure"), '"azure" is no cloud of this project: set CLOUD to aws or gcp.'),
        (("up", "aws", "big"), '"big" is no environment of this project: set ENV to small or production.'),
    ],
)
def test_wrong_words_are_refused(checkout: Path, arguments: tuple[str, ...], message: str) -> None:
    assert error(checkout, *arguments) == f"error: {message}\n"


def test_every_missing_program_is_named_with_its_page(checkout: Path) -> None:
    for tool in ("aws", "docker"):
        (checkout / "tools" / tool).unlink()
    message = error(checkout, "up", "aws")
    assert "  aws: https://docs.aws.amazon.com/" in message
    assert "IMAGES=pushed" in message


def test_variables_that_are_not_there_are_named(checkout: Path) -> None:
    assert error(checkout, "up", "aws") == (
        "error: terraform/envs/aws/small/terraform.tfvars is not there. Copy terraform.tfvars.example beside it, and fill it in.\n"
    )


def test_without_credentials_the_error_says_how_to_log_in(checkout: Path) -> None:
    (checkout / "terraform/envs/aws/small/terraform.tfvars").write_text('region = "eu-central-1"\n')
    stand_in(checkout, "aws", "echo expired >&2; exit 255")
    assert error(checkout, "up", "aws") == (
        "error: aws has no valid credentials. Log in: `aws sso login`, or `aws configure`; AWS_PROFILE selects a profile.\n"
    )


def test_a_region_is_needed(checkout: Path) -> None:
    (checkout / "terraform/envs/aws/small/terraform.tfvars").write_text('name = "ml"\n')
    assert "has no region. Add a line such as: region" in error(checkout, "up", "aws")


def test_down_without_a_state_changes_nothing(checkout: Path) -> None:
    (checkout / "terraform/envs/aws/small/terraform.tfvars").write_text('region = "eu-central-1"\n')
    stand_in(checkout, "terraform", 'case "$*" in *output*) exit 1 ;; *destroy*) exit 3 ;; esac')
    assert error(checkout, "down", "aws") == (
        "error: the state of aws/small has no cluster: nothing was applied, or all of it is destroyed.\n"
    )


def test_down_refuses_while_the_cluster_does_not_answer(checkout: Path) -> None:
    (checkout / "terraform/envs/aws/small/terraform.tfvars").write_text('region = "eu-central-1"\n')
    stand_in(checkout, "terraform", 'case "$*" in *destroy*) exit 3 ;; *) echo ml ;; esac')
    stand_in(checkout, "kubectl", "exit 1")
    assert "the cluster ml does not answer. Its load balancer and volumes must go first" in error(
        checkout, "down", "aws"
    )
