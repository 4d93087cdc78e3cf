"""Custom resource definitions (CRDs) of Kubeflow Pipelines and Argo Workflows.

Helm creates them at a first installation only: not when an upgrade enables Kubeflow Pipelines, and not when a chart has
newer ones. So `up` applies them. They are shared by the whole cluster, and may belong to another installation of Argo
Workflows. Those are left as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from cli.kubernetes import kube
from cli.kubernetes.kube import Release
from cli.local.machine import Finding
from phaseflow.errors import PermanentError
from phaseflow.settings import ROOT

KIND: Final = "CustomResourceDefinition"
MANAGER: Final = "phaseflow"
"""Field manager of server-side apply."""
OWN_MANAGERS: Final = frozenset({MANAGER, "helm"})
"""`helm` creates the definitions in a chart's folder `crds`, and those have no annotation of a release."""
CONTROLLER: Final = "workflow-controller"
KEEP: Final = "Keep it at Argo Workflows 4.0 or newer; phaseflow uses it and does not change it"


def of_charts() -> list[dict[str, Any]]:
    """All definitions in the charts, sorted by their files."""
    paths = sorted((ROOT / "helm").glob("*/crds/*.yaml"))
    return [document for path in paths for document in yaml.safe_load_all(path.read_text())]


def of_release(
    release: Release, chart: Path, arguments: Sequence[str], dry_run: str = "server"
) -> list[dict[str, Any]]:
    """The definitions that the values in helm's `arguments` enable. Raises PlatformError if a value is wrong."""
    rendered = kube.helm(
        release, "template", release.name, str(chart), "--include-crds", f"--dry-run={dry_run}", *arguments
    )
    documents = (text for text in rendered.split("\n---\n") if f"\nkind: {KIND}\n" in text)
    return [yaml.safe_load(text) for text in documents]


def apply(release: Release, manifests: Sequence[Mapping[str, Any]]) -> None:
    """Create or replace the definitions, except those of another installation, and wait until they can be used.

    Raises PermanentError if a definition of another installation lacks a version.
    """
    installed = _installed(release, manifests)
    own = []
    for manifest in manifests:
        name = manifest["metadata"]["name"]
        owner = _owner(installed[name]) if name in installed else ""
        if not owner:
            own.append(manifest)
        elif missing := _missing_versions(manifest, installed[name]):
            raise PermanentError(
                f"The custom resource definition {name} belongs to {owner}, and has no {missing}",
                fix="Update that installation to Argo Workflows 4.0 or newer, or remove it",
            )
    if own:
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": own})
        options = ("--server-side", "--force-conflicts", f"--field-manager={MANAGER}", "--filename", "-")
        kube.kubectl(release, "apply", *options, stdin=content)
        names = [f"crd/{manifest['metadata']['name']}" for manifest in own]
        kube.kubectl(release, "wait", "--for=condition=Established", "--timeout=60s", *names)


def findings(release: Release) -> Iterator[Finding]:
    """Check the definitions of the charts, and that no other controller runs the release's workflows."""
    manifests = of_charts()
    installed = _installed(release, manifests)
    controllers = _controllers(release)
    required = any(_of_release(release, controller) for controller in controllers)
    problems = [
        finding
        for manifest in manifests
        if (finding := _finding(release, manifest, installed.get(manifest["metadata"]["name"]), required=required))
    ]
    absent = len(manifests) - len(installed)
    observed = f"{absent} of {len(manifests)} missing; `{release.command} up` creates them" if absent else "up to date"
    yield from problems or [Finding(subject="custom resources", ok=True, observed=observed)]
    for controller in controllers:
        if not _of_release(release, controller) and _watches(release, controller):
            metadata = controller["metadata"]
            yield Finding(
                subject="argo workflows",
                ok=False,
                observed=f"{metadata['namespace']}/{metadata['name']} would also run this release's workflows",
                fix="Start that controller with `--namespaced`, or set `instanceID` in its configuration",
            )


def _finding(
    release: Release, manifest: Mapping[str, Any], installed: Mapping[str, Any] | None, *, required: bool
) -> Finding | None:
    """What is wrong with one definition; None if nothing is, or if `up` has yet to create it."""
    name = manifest["metadata"]["name"]
    if installed is None:
        fix = f"`{release.command} up` creates it"
        return Finding(subject=name, ok=False, observed="missing", fix=fix) if required else None
    if owner := _owner(installed):
        missing = _missing_versions(manifest, installed)
        observed = f"belongs to {owner}" + (f", and has no {missing}" if missing else "")
        fix = "Update that installation to Argo Workflows 4.0 or newer, or remove it" if missing else KEEP
        return Finding(subject=name, ok=False, observed=observed, fix=fix, required=bool(missing))
    if not _contains(installed["spec"], manifest["spec"]):
        fix = f"`{release.command} up` replaces it"
        return Finding(subject=name, ok=False, observed="another version than the chart's", fix=fix, required=required)
    return None


def _installed(release: Release, manifests: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The definitions of these names that the cluster has, by name."""
    names = [manifest["metadata"]["name"] for manifest in manifests]
    if not names:
        return {}
    options = ("--ignore-not-found", "--show-managed-fields", "--output", "json")
    output = kube.kubectl(release, "get", "customresourcedefinitions", *names, *options)
    return {item["metadata"]["name"]: item for item in json.loads(output)["items"]} if output else {}


def _owner(installed: Mapping[str, Any]) -> str:
    """The other installation that a definition belongs to; empty if it is ours."""
    metadata = installed["metadata"]
    annotations = metadata.get("annotations", {})
    if helm_release := annotations.get("meta.helm.sh/release-name"):
        return f"the Helm release {helm_release} in {annotations.get('meta.helm.sh/release-namespace', 'default')}"
    managers = {entry["manager"] for entry in metadata.get("managedFields", []) if entry.get("subresource") != "status"}
    return "" if managers & OWN_MANAGERS else f"another installation ({', '.join(sorted(managers)) or 'unknown'})"


def _missing_versions(manifest: Mapping[str, Any], installed: Mapping[str, Any]) -> str:
    """Versions of the API that the chart's definition serves and the installed one does not."""
    served, needed = (
        {version["name"] for version in definition["spec"]["versions"] if version.get("served")}
        for definition in (installed, manifest)
    )
    return ", ".join(sorted(needed - served))


def _contains(actual: Any, expected: Any) -> bool:
    """Whether `actual` has everything of `expected`; the API server adds defaults to what was applied."""
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and all(
            key in actual and _contains(actual[key], value) for key, value in expected.items()
        )
    if isinstance(expected, list):
        same_length = isinstance(actual, list) and len(actual) == len(expected)
        return same_length and all(_contains(*pair) for pair in zip(actual, expected, strict=True))
    return bool(actual == expected)


def _controllers(release: Release) -> list[dict[str, Any]]:
    """Deployments of Argo's workflow controller in all namespaces."""
    return [
        item
        for item in kube.items(release, "deployments", "--all-namespaces")
        if any(CONTROLLER in container["image"] for container in _containers(item))
    ]


def _containers(deployment: Mapping[str, Any]) -> list[dict[str, Any]]:
    containers: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["containers"]
    return containers


def _of_release(release: Release, deployment: Mapping[str, Any]) -> bool:
    metadata = deployment["metadata"]
    instance = metadata.get("labels", {}).get("app.kubernetes.io/instance")
    return bool(metadata["namespace"] == release.namespace and instance == release.name)


def _watches(release: Release, deployment: Mapping[str, Any]) -> bool:
    """Whether a controller runs workflows of the release's namespace that have no instance ID, as ours."""
    words = [
        word
        for container in _containers(deployment)
        for argument in [*container.get("command", []), *container.get("args", [])]
        for word in argument.split("=", 1)
    ]
    namespace = deployment["metadata"]["namespace"]
    watched = words[words.index("--managed-namespace") + 1] if "--managed-namespace" in words else namespace
    if "--namespaced" in words and watched != release.namespace:
        return False
    configuration = words[words.index("--configmap") + 1] if "--configmap" in words else f"{CONTROLLER}-configmap"
    options = ("--namespace", namespace, "--ignore-not-found", "--output", "json")
    return "instanceID" not in kube.kubectl(release, "get", "configmap", configuration, *options)
