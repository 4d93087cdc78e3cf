"""`make cluster`: a first and a second time, with recorded calls of docker, kind and helm, and the real kubectl."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from phaseflow.settings import ROOT

RECORD = '#!/bin/sh\necho "$(basename "$0") $*" >>"$STATE/calls"\n'
PROGRAMS = {
    "docker": """
case "$*" in
    *--print*) echo '{"target": {"portal": {"tags": ["phaseflow/portal:'"$TAG"'"]}}}' ;;
    "buildx bake "*--load*) touch "$STATE/image" ;;
    "image inspect "*) test -e "$STATE/image" ;;
esac
""",
    "kind": """
case "$*" in
    "get clusters") cat "$STATE/clusters" 2>/dev/null ;;
    "create cluster "*)
        echo phaseflow >"$STATE/clusters"
        kubectl config set-context kind-phaseflow >/dev/null
        kubectl config use-context kind-phaseflow >/dev/null
        ;;
    "load "*) ;;
    *) exit 1 ;;
esac
""",
    "helm": 'test -e "$STATE/release"',
    "phaseflow": """
case "$*" in
    "up "*) touch "$STATE/release" ;;
    demo) exit "${DEMO:-0}" ;;
esac
""",
}
"""What a program does besides the record of its call."""
CONTENT = ("pyproject.toml", "uv.lock", "bin/uv.txt", "phaseflow/code.py", "phaseflow/tests/test_code.py", "README.md")


@dataclass(frozen=True)
class Checkout:
    """A small checkout, and programs that record their calls."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the checkout."""
        return subprocess.run(
            [self.folder / command[0], *command[1:]],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def tag(self) -> str:
        """The tag of the images."""
        return self.run("bin/image-tag").stdout.strip()

    def calls(self, words: str) -> list[str]:
        """The recorded calls that contain `words`."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if words in line]

    def kubectl(self, *arguments: str) -> str:
        """Run the real kubectl."""
        argv = ["kubectl", *arguments]
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    for name in CONTENT:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    for name in ("bin/cluster", "bin/images", "bin/image-tag", "bin/image-names", ".dockerignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, script in PROGRAMS.items():
        path = tmp_path / "bin" / name if name == "phaseflow" else programs / name
        path.write_text(RECORD + script)
        path.chmod(0o755)
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
        "STATE": str(tmp_path),
    }
    return Checkout(tmp_path, environment)


def test_the_tag_changes_with_the_content_of_the_images_and_only_then(checkout: Checkout) -> None:
    first = checkout.tag()
    assert first.startswith("src-")
    for name in ("README.md", "phaseflow/tests/test_code.py", "bin/images"):
        (checkout.folder / name).write_text("#!/bin/sh\n# changed")
    assert checkout.tag() == first
    tags = {first}
    for name in ("phaseflow/code.py", "uv.lock", "k8s/Dockerfile"):
        (checkout.folder / name).write_text("changed")
        tags.add(checkout.tag())
    (checkout.folder / "phaseflow" / "new.py").write_text("")
    tags.add(checkout.tag())
    assert len(tags) == 5


def test_the_images_are_in_docker_with_every_builder(checkout: Checkout) -> None:
    completed = checkout.run("bin/images")
    assert completed.returncode == 0, completed.stderr
    (build,) = checkout.calls("--load")
    assert "buildx bake --file k8s/images.hcl" in build
    (checkout.folder / "image").unlink()
    (checkout.folder / "programs" / "docker").write_text(RECORD + PROGRAMS["docker"].replace("--load", "--never"))
    completed = checkout.run("bin/images", TAG="x")
    assert completed.returncode == 2
    assert completed.stderr == (
        "error: the build ended well, but Docker has no image phaseflow/portal:x. "
        "Its builder kept them: `docker buildx use default`, then try again.\n"
    )


def test_a_release_pushes_the_named_targets_for_both_architectures(checkout: Checkout) -> None:
    base = f"python:3.11@sha256:{'0' * 64}"
    assert checkout.run("bin/images", "environments", PUSH="1", TAG="1.0.0", BASE=base).returncode == 0
    (build,) = checkout.calls("bake")
    assert build.endswith("--push --set *.platform=linux/amd64,linux/arm64 environments")


def test_a_second_time_rolls_out_what_has_changed_and_plays_no_demo(checkout: Checkout) -> None:
    completed = checkout.run("bin/cluster")
    assert completed.returncode == 0, completed.stderr
    first = checkout.tag()
    assert checkout.calls("phaseflow up") == [
        f"phaseflow up --profile small --rehearsal --set global.images.tag={first}"
    ]
    assert checkout.calls("kind load") == [f"kind load docker-image --name phaseflow phaseflow/portal:{first}"]
    assert checkout.calls("")[-2:] == ["phaseflow demo", "phaseflow urls --show-passwords"]
    (checkout.folder / "calls").unlink()
    (checkout.folder / "phaseflow" / "code.py").write_text("changed")
    completed = checkout.run("bin/cluster", "kind")
    assert completed.returncode == 0, completed.stderr
    assert checkout.tag() != first
    assert checkout.calls("phaseflow up") == [
        f"phaseflow up --profile kind --rehearsal --set global.images.tag={checkout.tag()}"
    ]
    assert not checkout.calls("kind create")
    assert not checkout.calls("demo")
    assert "bin/phaseflow --context kind-phaseflow demo" in completed.stdout
    assert checkout.calls("")[-1] == "phaseflow urls --show-passwords"


def test_the_addresses_are_printed_after_a_failed_demo(checkout: Checkout) -> None:
    assert checkout.run("bin/cluster", DEMO="1").returncode == 1
    assert checkout.calls("")[-2:] == ["phaseflow demo", "phaseflow urls --show-passwords"]


@pytest.mark.parametrize("current", ["mine", ""])
def test_the_current_context_stays_the_users(checkout: Checkout, current: str) -> None:
    if current:
        checkout.kubectl("config", "set-context", current)
        checkout.kubectl("config", "use-context", current)
    assert checkout.run("bin/cluster").returncode == 0
    assert checkout.kubectl("config", "current-context") == current
    assert "kind-phaseflow" in checkout.kubectl("config", "get-contexts", "--output", "name").splitlines()


@pytest.mark.parametrize(("second", "code"), [("1", 0), ("2", 1)])
def test_the_nightly_run_fails_if_an_upgrade_without_a_change_replaces_pods(
    checkout: Checkout, second: str, code: int
) -> None:
    shutil.copy(ROOT / "bin" / "test-cluster-all", checkout.folder / "bin")
    for folder, name in (
        *(("bin", script) for script in ("cluster", "test-cluster", "suite")),
        *(("programs", program) for program in ("kubectl", "helm")),
    ):
        path = checkout.folder / folder / name
        path.write_text(
            RECORD + (f"test -e $STATE/once && echo {second} || echo 1; touch $STATE/once" * (name == "kubectl"))
        )
        path.chmod(0o755)
    (checkout.folder / "programs" / "kind").write_text(RECORD)
    completed = checkout.run("bin/test-cluster-all", "-x")
    assert completed.returncode == code
    assert checkout.calls("cluster ")[:3] == ["cluster small", "cluster kind", "cluster kind"]
    assert checkout.calls("test-cluster") == (["test-cluster -x"] if code == 0 else [])
    assert ("an upgrade without a change replaced pods" in completed.stderr) is bool(code)
