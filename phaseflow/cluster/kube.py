"""helm and kubectl, for one release."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any, Final

from phaseflow.errors import PlatformError

TOOLS: Final = {
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
    "helm": "https://helm.sh/docs/intro/install/",
    "docker": "https://docs.docker.com/engine/install/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
}
"""Programs, and where each is had."""
RESTRICTED: Final = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release of the platform's chart in a namespace of the cluster that `KUBECONFIG` (or `context` in it) names."""

    name: str = "phaseflow"
    namespace: str = "phaseflow"
    context: str = ""


def program(name: str) -> str:
    """Its path; raises PlatformError that says where it is had."""
    path = shutil.which(name)
    if path is None:
        raise PlatformError(f"{name} is not on the PATH", fix=f"Install it: {TOOLS[name]}")
    return path


def kubectl(release: Release, *arguments: str, stdin: str | None = None) -> str:
    """What kubectl prints; raises PlatformError with what it said."""
    context = ["--context", release.context] if release.context else []
    return _run([program("kubectl"), *context, "--namespace", release.namespace, *arguments], stdin)


def helm(release: Release, *arguments: str) -> str:
    """What helm prints; raises PlatformError with what it said."""
    context = ["--kube-context", release.context] if release.context else []
    return _run([program("helm"), *context, "--namespace", release.namespace, *arguments], None)


def _run(command: list[str], stdin: str | None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.strip().splitlines() if "level=" not in line] or ["it said nothing"]
        raise PlatformError(
            f"{command[0].rsplit('/', 1)[-1]} says: {' '.join(said)[-1500:]}",
            fix="Correct what it names; `phaseflow cluster doctor` looks at the cluster",
        )
    return done.stdout


def items(release: Release, kinds: str, *selection: str) -> list[dict[str, Any]]:
    """The objects of the kinds ("pods", "deployments,statefulsets"), as Kubernetes has them."""
    found: list[dict[str, Any]] = json.loads(kubectl(release, "get", kinds, "--output", "json", *selection))["items"]
    return found


def ours(release: Release) -> tuple[str, str]:
    """What selects the objects of the release, for kubectl."""
    return ("--selector", f"app.kubernetes.io/instance={release.name}")


def values(release: Release) -> dict[str, Any]:
    """The release's values, defaults included; raises PlatformError where there is no such release."""
    try:
        found: dict[str, Any] = json.loads(helm(release, "get", "values", release.name, "--all", "--output", "json"))
    except PlatformError as error:
        if "not found" in error.problem:
            raise PlatformError(
                f"There is no release {release.name!r} in the namespace {release.namespace!r}",
                fix="Install it with `phaseflow cluster up`, or name yours: `--release NAME --namespace NAMESPACE`",
            ) from error
        raise
    return found


def namespace(release: Release) -> None:
    """Make the namespace, which enforces the restricted Pod Security Standard."""
    wanted = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": release.namespace, "labels": RESTRICTED},
    }
    kubectl(release, "apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=json.dumps(wanted))
