"""Fixtures: the assembled charts, and their installations with each profile."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cli.charts import charts
from cli.charts.tests.rendering import Helm, Object
from phaseflow.settings import ROOT

ALONE = [name for name in charts.names() if name != "platform"]
PROFILES = [
    "defaults",
    *sorted(path.stem.removeprefix("values-") for path in (charts.FOLDER / "platform").glob("values-*.yaml")),
]
EVERYTHING = (
    "pipelines.engine=kfp,kubeflow-pipelines.enabled=true,backup.enabled=true,monitoring.operator.enabled=true,"
    "monitoring.dashboards.configMaps=true,serving.serviceMonitor.enabled=true,serving.autoscaling.enabled=true,serving.resources.requests.cpu=250m,"
    "airflow.executor=KubernetesExecutor,gateway.enabled=true,gateway.className=x,"
    "gateway.tlsSecret=t,serving.spool.persistent=true,"
    "global.auth.oidc.enabled=true,global.auth.oidc.issuer=https://login.example.com,global.auth.oidc.existingSecret=login,"
    "global.auth.oidc.roles.admin={admins}"
)
"""Values that enable every part and every option."""


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    assert shutil.which("helm"), (
        "helm is not on the PATH. Install it from https://helm.sh/docs/intro/install (3.14 or newer)."
    )
    folder = tmp_path_factory.mktemp("charts")
    subprocess.run([ROOT / "bin" / "charts", folder], check=True)
    return Helm(folder)


@pytest.fixture(scope="session")
def filled_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """values-production.yaml with all placeholders replaced."""
    text = (charts.FOLDER / "platform" / "values-production.yaml").read_text()
    path = tmp_path_factory.mktemp("values") / "production.yaml"
    path.write_text(re.sub(r"<([a-z-]+)>", r"\1.example", text))
    return path


@pytest.fixture
def installed(request: pytest.FixtureRequest, helm: Helm, filled_in: Path) -> tuple[Object, ...]:
    """The objects of one installation."""
    return helm.objects(*arguments(request.param, filled_in))


def arguments(way: str, filled_in: Path) -> tuple[str, ...]:
    """Arguments of `helm template` for an installation."""
    if way in ALONE:
        return (way,)
    if way == "defaults":
        return ("platform",)
    if way == "everything":
        return ("platform", "--set", EVERYTHING)
    values = filled_in if way == "production" else charts.FOLDER / "platform" / f"values-{way}.yaml"
    return ("platform", "--values", str(values))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "installed" in metafunc.fixturenames:
        ways = [*PROFILES, "everything", *ALONE]
        metafunc.parametrize("installed", ways, indirect=True, ids=ways)
