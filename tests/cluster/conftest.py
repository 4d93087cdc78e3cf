"""One release for all tests of this folder, on the cluster that KUBECONFIG names."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from phaseflow.cli.demo import World
from phaseflow.cluster import access, kube
from phaseflow.cluster.kube import Release
from phaseflow.embedded import components
from phaseflow.settings import ROOT, Settings

PROFILES = ("helm/platform/values-small.yaml", "helm/platform/values-rehearsal.yaml")
OWN = ("tests/cluster/values-tests.yaml", "tests/cluster/values-standins.yaml")
ASK = "import urllib.request as r; print(r.urlopen('http://localhost:3000/titanic/model').read().decode())"
"""What a serving pod runs to say what it serves: the front door would ask any of them."""


def values(root: Path) -> list[str]:
    """Helm's arguments: the small profile at rehearsal's pace and what the tests add, as they are in the checkout `root`."""
    files = [*PROFILES, *(OWN if os.environ.get("STANDINS") else OWN[:1])]
    return [word for name in files for word in ("--values", str(root / name))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The release under test."""

    release: Release

    def phaseflow(self, *arguments: str, check: bool = True, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """`phaseflow cluster ARGUMENTS`."""
        where = ("--namespace", self.release.namespace, "--release", self.release.name)
        done = subprocess.run(
            [ROOT / "bin" / "phaseflow", "cluster", *arguments, *where],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"phaseflow cluster {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def json(self, *arguments: str, timeout: float = 900) -> Any:
        """What `phaseflow cluster ARGUMENTS --json` prints."""
        return json.loads(self.phaseflow(*arguments, "--json", timeout=timeout).stdout)

    def up(self, *more: str, check: bool = True, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Install or upgrade with the tests' values."""
        return self.phaseflow("up", *values(ROOT), *more, check=check, timeout=timeout)

    def kubectl(self, *arguments: str) -> str:
        """In the release's namespace."""
        return kube.kubectl(self.release, *arguments)

    def pods(self, component: str) -> list[str]:
        """Names of the component's pods."""
        found = kube.items(
            self.release,
            "pods",
            "--selector",
            f"app.kubernetes.io/instance={self.release.name},app.kubernetes.io/component={component}",
        )
        return [pod["metadata"]["name"] for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def secrets(self) -> dict[str, str]:
        """Every secret of the release, by name and key."""
        found = kube.items(self.release, "secrets", *kube.ours(self.release))
        return {f"{one['metadata']['name']}/{key}": value for one in found for key, value in one["data"].items()}

    @property
    def settings(self) -> Settings:
        """The way to it through the front door."""
        return access.settings(self.release)

    def served(self) -> dict[str, str]:
        """Version and SHA-256 of the model that every replica serves; raises where one has none, or another."""
        found = set()
        for pod in self.pods("titanic"):
            answer = json.loads(self.kubectl("exec", pod, "--", "python", "-c", ASK))
            found.add((answer["version"], answer["sha256"]))
        ((version, digest),) = found
        return {"version": version, "sha256": digest}

    @contextmanager
    def traffic(self, rate: float = 20) -> Iterator[dict[str, Any]]:
        """Requests through the front door while the block runs, which begins when the first are answered; then what came of them."""
        arguments = ["--rows", "0", "--rate", str(rate), "--feedback"]
        summary: dict[str, Any] = {}
        with components.traffic(self.settings, "tabular", "titanic", *arguments) as process:
            assert process.stdout is not None
            world = World(iter(process.stdout.readline, ""))
            until("the first answers", lambda: world.last["sent"] > 50)
            yield summary
            process.terminate()
            summary |= world.ended()


def until(what: str, look: Callable[[], Any], seconds: float = 180) -> Any:
    """Poll until there is something; an error counts as nothing."""
    end, said = time.monotonic() + seconds, ""
    while time.monotonic() < end:
        try:
            found = look()
        except Exception as error:
            found, said = None, f" ({error})"
        if found:
            return found
        time.sleep(0.5)
    pytest.fail(f"{what} did not happen within {seconds:.0f} s{said}")


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Secrets of the tests' releases stay out of the checkout."""
    os.environ["PHASEFLOW_HOME"] = str(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The previous commit's checkout, with its charts under `charts/`."""
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
