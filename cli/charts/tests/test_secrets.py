"""Tests of Secrets that an installation brings, as GitOps needs them: nothing is generated, and two renders are equal."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.charts import charts
from cli.charts.tests.conftest import ALONE, PROFILES, arguments
from cli.charts.tests.rendering import Helm, generated_secrets, name, pods
from cli.charts.tests.test_objects import references
from phaseflow.settings import ROOT

NONE = ("--set", "global.generateSecrets=false")
KFP = ("--set", "pipelines.engine=kfp,kubeflow-pipelines.enabled=true")


def documented() -> Any:
    """The values of the page about GitOps."""
    page = (ROOT / "docs" / "how-to" / "deploy-with-gitops.md").read_text()
    (block,) = [
        block for block in re.findall(r"( *)```yaml\n(.*?)```", page, re.DOTALL) if "generateSecrets: false" in block[1]
    ]
    return yaml.safe_load(textwrap.dedent(block[1]))


def missing(error: str) -> list[str]:
    match = re.search(r"these values name no Secret: (.*)\. Create each Secret", error)
    assert match, error
    return [entry.partition(" ")[0] for entry in match[1].split("; ")]


@pytest.mark.parametrize("way", [*PROFILES, *ALONE])
def test_an_error_lists_every_value_that_names_no_secret(helm: Helm, filled_in: Path, way: str) -> None:
    chart, *values = arguments(way, filled_in)
    generated = {name(secret) for secret in generated_secrets(helm.objects(chart, *values))}
    if not generated:
        assert helm.template(chart, *values, *NONE).returncode == 0
        return
    listed = missing(helm.template_error(chart, *values, *NONE))
    assert len(listed) == len(set(listed)) == len(generated)


@pytest.mark.parametrize("engine", [(), KFP], ids=["local", "kfp"])
def test_the_documented_values_generate_nothing(helm: Helm, tmp_path: Path, engine: tuple[str, ...]) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(documented()))
    values = ("--values", str(path), "--set", "backup.enabled=true", *engine)
    first, second = (helm.template("platform", *values) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    objects = helm.objects("platform", *values)
    assert generated_secrets(objects) == []
    # The pods mount the Secrets of the page, which the page renders with the release's name `phaseflow`.
    rendered = helm.run("template", "phaseflow", str(helm.charts / "platform"), "--set", "backup.enabled=true", *engine)
    generated = {
        manifest["metadata"]["name"]: set(manifest["stringData"])
        for manifest in yaml.load_all(rendered.stdout, Loader=yaml.CSafeLoader)
        if manifest and manifest["kind"] == "Secret"
    }
    mounted = {
        (reference, keys)
        for _, pod in pods(objects)
        for kind, reference, keys in references(pod["spec"])
        if kind == "Secret" and reference != "p-alertmanager"  # a configuration, which the chart makes
    }
    assert mounted
    for reference, keys in mounted:
        assert set(keys) <= generated[reference], reference


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            "storage.postgres.existingSecret=mine",
            "postgres.existingSecret is set, but the roles airflow, backup, mlflow have no Secret with their password: "
            "name each in global.postgres.existingSecrets.",
        ),
        (
            "global.postgres.existingSecrets.airflow=mine",
            "global.postgres.existingSecrets names Secrets for roles of the chart's own Postgres, whose passwords the chart "
            "would not know: set storage.postgres.existingSecret and the Secrets of all three roles (airflow, mlflow, "
            "backup), or none.",
        ),
        (
            "global.store.existingSecrets.serving=mine",
            "global.store names Secrets with keys for the chart's own S3 store, which would not know them: set "
            "storage.s3.existingSecret to a Secret with its s3.json too, or name none.",
        ),
    ],
    ids=["postgres", "role", "store"],
)
def test_a_store_and_its_clients_have_the_same_passwords(helm: Helm, values: str, message: str) -> None:
    assert message in helm.template_error("platform", "--set", values)


def test_every_generated_secret_is_in_the_table() -> None:
    """A template that makes a Secret asks whether it should."""
    for path in charts.FOLDER.glob("*/templates/*.yaml"):
        text = path.read_text()
        if "kind: Secret" in text and path.name != "alertmanager.yaml":  # its Secret has no generated value
            assert '"phaseflow.generates"' in text, path
