"""One release for all tests of this folder, on the cluster that KUBECONFIG names."""

from __future__ import annotations

import base64
import functools
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from cli.demo.probes import TrafficMonitor
from cli.kubernetes import access, kube
from cli.kubernetes.kube import Release
from cli.local import components
from phaseflow import testing
from phaseflow.access import named_tokens
from phaseflow.settings import ROOT, Settings

PROFILES = ("helm/platform/values-small.yaml", "helm/platform/values-rehearsal.yaml")
OWN = ("tests/cluster/values-tests.yaml", "tests/cluster/values-standins.yaml")
ASK = "import urllib.request as r; print(r.urlopen('http://localhost:3000/titanic/model').read().decode())"
"""Code that a serving pod runs to print its own model; a request through the reverse proxy could reach any pod."""


USER_SECRET: Final = "given-airflow"
"""Name of a Secret that the user created before the installation."""


def apply_secret(release: Release, name: str, data: Mapping[str, str]) -> None:
    """Create or replace a Secret of the user's."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
    kube.kubectl(release, "apply", "--filename", "-", stdin=json.dumps(secret))


def apply_user_secret(release: Release) -> None:
    """Create the Secret with Airflow's passwords and keys that `values-tests.yaml` names."""
    password, fernet = secrets.token_urlsafe(16), base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    data = {
        "airflow_admin_password": password,
        "airflow_jwt": secrets.token_urlsafe(48),
        "airflow_fernet": fernet,
        "passwords.json": json.dumps({"admin": password}),
    }
    apply_secret(release, USER_SECRET, data)


def values(root: Path) -> list[str]:
    """Return Helm's arguments for the values of the small and rehearsal profiles and of the tests in a checkout."""
    files = [*PROFILES, *(OWN if os.environ.get("STANDINS") else OWN[:1])]
    return [word for name in files for word in ("--values", str(root / name))]


def current_context() -> str:
    """Return the current context of the kubeconfig that KUBECONFIG names."""
    argv = ["kubectl", "config", "current-context"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The release under test."""

    release: Release

    def phaseflow(self, *arguments: str, check: bool = True, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run `phaseflow --context NAME ARGUMENTS`."""
        release = self.release
        options = ("--context", release.context, "--namespace", release.namespace, "--release", release.name)
        completed = subprocess.run(
            [ROOT / "bin" / "phaseflow", *options, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and completed.returncode:
            output = completed.stdout + completed.stderr
            pytest.fail(f"phaseflow {' '.join(arguments)}: {completed.returncode}\n{output}")
        return completed

    def json(self, *arguments: str, timeout: float = 900) -> Any:
        """Run `phaseflow --context NAME ARGUMENTS --json` and parse its output."""
        return json.loads(self.phaseflow(*arguments, "--json", timeout=timeout).stdout)

    def up(self, *more: str, check: bool = True, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Install or upgrade the release with the tests' values."""
        return self.phaseflow("up", *values(ROOT), *more, check=check, timeout=timeout)

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the release's namespace."""
        return kube.kubectl(self.release, *arguments)

    def pods(self, component: str) -> list[str]:
        """Return the names of a component's pods."""
        items = kube.items(
            self.release,
            "pods",
            "--selector",
            f"app.kubernetes.io/instance={self.release.name},app.kubernetes.io/component={component}",
        )
        return [pod["metadata"]["name"] for pod in items if not pod["metadata"].get("deletionTimestamp")]

    def secrets(self) -> dict[str, str]:
        """Return every secret value of the release, by name and key."""
        items = kube.items(self.release, "secrets", *kube.selector(self.release))
        return {
            f"{secret['metadata']['name']}/{key}": value for secret in items for key, value in secret["data"].items()
        }

    @property
    def settings(self) -> Settings:
        """Settings that reach the release through the reverse proxy."""
        return access.settings(self.release)

    def served(self) -> dict[str, str]:
        """Return version and SHA-256 of the served model; raise ValueError if the replicas differ."""
        models = set()
        for pod in self.pods("titanic"):
            model = json.loads(self.kubectl("exec", pod, "--", "python", "-c", ASK))
            models.add((model["version"], model["sha256"]))
        ((version, digest),) = models
        return {"version": version, "sha256": digest}

    def feedback_token(self) -> str:
        """Return the feedback token of the client `default`."""
        return named_tokens(self.settings.secret("feedback_tokens"))["default"]

    @contextmanager
    def traffic(self, rate: float = 20, *, drift: bool = False) -> Iterator[dict[str, Any]]:
        """Send requests through the reverse proxy during the block, which starts after the first responses.

        The yielded summary is filled at the end.
        """
        arguments = ["--rows", "0", "--rate", str(rate), "--feedback", *(["--drift"] if drift else [])]
        summary: dict[str, Any] = {}
        with components.traffic(self.settings, "tabular", "titanic", *arguments) as process:
            assert process.stdout is not None
            output = TrafficMonitor(iter(process.stdout.readline, ""))
            wait_for("the first answers", lambda: output.last["sent"] > 50)
            yield summary
            process.terminate()
            summary |= output.ended()


wait_for = functools.partial(testing.wait_for, seconds=180, ignore=Exception, interval=0.5)


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the secrets of the tests' releases out of the checkout."""
    os.environ["PHASEFLOW_HOME"] = str(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the previous commit, with its charts under `charts/`."""
    folder = tmp_path_factory.mktemp("before")
    archive = subprocess.run(
        ["git", "archive", "HEAD~1", "helm", "monitoring/generated", "bin/charts", "tests/cluster"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    subprocess.run([folder / "bin" / "charts", folder / "charts"], check=True)
    return folder
