"""Runs helm and kubectl for one release."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any, Final

from phaseflow import errors
from phaseflow.errors import PermanentError, PlatformError, suggestion

TOOLS: Final = {
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
    "helm": "https://helm.sh/docs/intro/install/",
    "docker": "https://docs.docker.com/engine/install/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
}
"""Programs, and where to get each."""
RESTRICTED: Final = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}


DEFAULT: Final = "phaseflow"
"""Name of the release, and of its namespace, unless others are given."""
CONTEXT: Final = re.compile(r"context was not found for specified context|context \".*\" does not exist")
"""What kubectl and helm print for a context that the kubeconfig does not contain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release of the platform's chart, in a namespace of the cluster that `KUBECONFIG` and `context` select."""

    name: str = DEFAULT
    namespace: str = DEFAULT
    context: str = ""
    """A context of the kubeconfig; empty means the current one."""

    @property
    def command(self) -> str:
        """The command line that selects this release, for the fix of an error."""
        words = ["phaseflow", "--context", self.context or "NAME"]
        words += ["--namespace", self.namespace] if self.namespace != DEFAULT else []
        words += ["--release", self.name] if self.name != DEFAULT else []
        return " ".join(words)


def program(name: str) -> str:
    """Path of a program; raises PlatformError with the installation instructions if it is not on the PATH."""
    path = shutil.which(name)
    if path is None:
        raise PlatformError(f"{name} is not on the PATH", fix=f"Install it: {TOOLS[name]}")
    return path


def kubectl(release: Release, *arguments: str, stdin: str | None = None) -> str:
    """Run kubectl, and return its output; raises PlatformError with its error output."""
    return _run(release, command_line(release, *arguments), stdin)


def command_line(release: Release, *arguments: str) -> list[str]:
    """The command line of kubectl for the release."""
    context = ["--context", release.context] if release.context else []
    return [program("kubectl"), *context, "--namespace", release.namespace, *arguments]


def helm(release: Release, *arguments: str) -> str:
    """Run helm, and return its output; raises PlatformError with its error output."""
    context = ["--kube-context", release.context] if release.context else []
    return _run(release, [program("helm"), *context, "--namespace", release.namespace, *arguments], None)


def _run(release: Release, command: list[str], stdin: str | None) -> str:
    completed = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if not completed.returncode:
        return completed.stdout
    if CONTEXT.search(completed.stderr):
        raise _unknown_context(release)
    lines = [line for line in completed.stderr.strip().splitlines() if "level=" not in line] or ["no error output"]
    for line in reversed(lines):  # a program in a pod reports its error, and kubectl adds its own line
        if error := errors.from_output(line):
            raise error
    raise PlatformError(
        f"{command[0].rsplit('/', 1)[-1]} failed: {' '.join(lines)[-1500:]}",
        fix=f"Correct what the message names; `{release.command} doctor` checks the cluster",
    )


def _unknown_context(release: Release) -> PermanentError:
    """The error for a context that is not in the kubeconfig, with the names of those that are."""
    argv = [program("kubectl"), "config", "get-contexts", "--output", "name"]
    names = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split()
    other = (
        "Name one of them, or set KUBECONFIG to another file" if names else "Set KUBECONFIG to a file that has contexts"
    )
    return PermanentError(
        f"The kubeconfig has no context {release.context!r}; available: {', '.join(names) or 'none'}",
        fix=suggestion(release.context, names) or other,
    )


def missing(release: Release) -> PermanentError:
    """The error for a release that does not exist."""
    return PermanentError(
        f"There is no release {release.name!r} in the namespace {release.namespace!r}",
        fix=f"Install it with `{release.command} up`, or name yours: "
        "`phaseflow --context NAME --namespace NAMESPACE --release NAME`",
    )


def items(release: Release, kinds: str, *selection: str) -> list[dict[str, Any]]:
    """Objects of the kinds ("pods", "deployments,statefulsets"), as `kubectl get` returns them."""
    objects: list[dict[str, Any]] = json.loads(kubectl(release, "get", kinds, "--output", "json", *selection))["items"]
    return objects


def selector(release: Release) -> tuple[str, str]:
    """Arguments of kubectl that select the objects of the release."""
    return ("--selector", f"app.kubernetes.io/instance={release.name}")


def values(release: Release) -> dict[str, Any]:
    """The release's values, including defaults; raises PlatformError if the release does not exist."""
    try:
        release_values: dict[str, Any] = json.loads(
            helm(release, "get", "values", release.name, "--all", "--output", "json")
        )
    except PlatformError as error:
        if "not found" in error.problem:
            raise missing(release) from error
        raise
    return release_values


def namespace(release: Release) -> None:
    """Create the namespace, with the restricted Pod Security Standard enforced."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": release.namespace, "labels": RESTRICTED},
    }
    kubectl(release, "apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=json.dumps(manifest))
