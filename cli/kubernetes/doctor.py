"""Checks a cluster's requirements before the platform is installed. Each failed check has a fix."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cli.kubernetes import kube
from cli.kubernetes.kube import Release
from cli.local.machine import GIB, Finding
from phaseflow.errors import PlatformError

KUBERNETES: Final = (1, 30)
HELM: Final = (3, 14)
ARCHITECTURES: Final = frozenset({"amd64", "arm64"})
DISK: Final = 20 * GIB
"""Images take about 6 GiB; volumes and logs grow."""
REQUIREMENTS: Final[Mapping[str, tuple[float, int]]] = {"small": (2.0, 6 * GIB), "kind": (4.0, 8 * GIB)}
"""CPUs and bytes of memory that each profile needs. Those of `production` depend on its replicas."""
KUBEFLOW: Final = frozenset({"kind", "production"})
"""Profiles that enable Kubeflow Pipelines."""
TOLERANCE: Final = 0.9
"""Share of a requirement that suffices. A machine with 6 GiB offers a little less, because it reserves some for itself."""
INOTIFY: Final = {"max_user_instances": 512, "max_user_watches": 65_536}
"""Minimum of each limit. Below it, the processes in kind's nodes, which share this machine's kernel, fail with "too
many open files"."""
_UNITS: Final = {
    "": 1.0,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}


def quantity(text: str) -> float:
    """Parse a Kubernetes quantity: "250m" is 0.25, "1Gi" is 1073741824. Raises ValueError if it is malformed."""
    match = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", text)
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a Kubernetes quantity")
    return float(match[1]) * _UNITS[match[2]]


def programs(names: Sequence[str]) -> Iterator[Finding]:
    """Check that each program is on the PATH."""
    for name in names:
        try:
            yield Finding(subject=name, ok=True, observed=kube.program(name))
        except PlatformError as error:
            yield Finding(subject=name, ok=False, observed="not on the PATH", fix=error.fix)


def machine() -> Iterator[Finding]:
    """Check what kind's nodes need from this machine."""
    for name, needed in INOTIFY.items():
        path = Path("/proc/sys/fs/inotify", name)
        if path.exists():
            limit = int(path.read_text())
            fix = "" if limit >= needed else f"`sudo sysctl fs.inotify.{name}={needed}`"
            yield Finding(subject=f"inotify {name}", ok=limit >= needed, observed=f"{limit}, {needed} needed", fix=fix)
    architecture = this_architecture()
    yield Finding(
        subject="architecture",
        ok=architecture in ARCHITECTURES,
        observed=architecture,
        fix="" if architecture in ARCHITECTURES else f"Use a machine with {' or '.join(sorted(ARCHITECTURES))}",
    )


def cluster(release: Release, profile: str) -> Iterator[Finding]:
    """Check the cluster that `KUBECONFIG` names. If it does not respond, this is the only finding."""
    try:
        version = json.loads(kube.kubectl(release, "version", "--output", "json"))["serverVersion"]
    except (PlatformError, KeyError) as error:
        problem = error.problem if isinstance(error, PlatformError) else "no server version"
        fix = "Start a cluster (`make cluster` makes one with kind), or set KUBECONFIG to yours"
        yield Finding(subject="cluster", ok=False, observed=problem[:300], fix=fix)
        return
    yield version_finding("kubernetes", version["gitVersion"], KUBERNETES, "Upgrade the cluster")
    yield version_finding(
        "helm version", kube.helm(release, "version", "--short").strip(), HELM, f"Upgrade helm: {kube.TOOLS['helm']}"
    )
    nodes = kube.items(release, "nodes")
    yield _architecture(nodes)
    yield from _resources(nodes, kube.items(release, "pods", "--all-namespaces"), release, profile)
    yield _storage(kube.items(release, "storageclasses"))


def architectures(release: Release) -> frozenset[str]:
    """Architectures of the nodes; empty if the cluster can't be asked."""
    try:
        nodes = kube.items(release, "nodes")
    except PlatformError:
        return frozenset()
    return frozenset(node["status"]["nodeInfo"]["architecture"] for node in nodes)


def this_architecture() -> str:
    """Architecture of this machine, in the words of Kubernetes."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def version_finding(subject: str, text: str, minimum: tuple[int, int], fix: str) -> Finding:
    """Check that the first version in `text` is at least `minimum`."""
    match = re.search(r"v?(\d+)\.(\d+)", text)
    ok = match is not None and (int(match[1]), int(match[2])) >= minimum
    minimum_text = ".".join(map(str, minimum))
    return Finding(subject=subject, ok=ok, observed=f"{text}, {minimum_text} needed", fix="" if ok else fix)


def _architecture(nodes: Sequence[Mapping[str, Any]]) -> Finding:
    architectures = {node["status"]["nodeInfo"]["architecture"] for node in nodes}
    ok = bool(architectures & ARCHITECTURES)
    return Finding(
        subject="architecture",
        ok=ok,
        observed=", ".join(sorted(architectures)),
        fix="" if ok else f"Add nodes with {' or '.join(sorted(ARCHITECTURES))}",
    )


def _resources(
    nodes: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]], release: Release, profile: str
) -> Iterator[Finding]:
    """Check the unrequested CPU and memory of all nodes together, and the disk of the largest node."""
    others = [
        pod
        for pod in pods
        if pod["status"].get("phase") in {"Pending", "Running"}
        and not (
            pod["metadata"]["namespace"] == release.namespace
            and pod["metadata"].get("labels", {}).get("app.kubernetes.io/instance") == release.name
        )
    ]
    requirements = REQUIREMENTS.get(profile)
    for kind, index, unit, size in (("CPU", 0, "cores", 1.0), ("memory", 1, "GiB", float(GIB))):
        key = kind.lower()
        free = sum(quantity(node["status"]["allocatable"][key]) for node in nodes) - sum(
            _resource_request(pod, key) for pod in others
        )
        if requirements is None:
            yield Finding(subject=kind, ok=True, observed=f"{free / size:.1f} {unit} free", required=False)
            continue
        needed = float(requirements[index])
        ok = free >= TOLERANCE * needed
        fix = "" if ok else "Add a node, or reduce the requests of other pods (`kubectl describe nodes`)"
        yield Finding(
            subject=kind, ok=ok, observed=f"{free / size:.1f} {unit} free, {needed / size:.0f} needed", fix=fix
        )
    disk = max(quantity(node["status"]["allocatable"].get("ephemeral-storage", "0")) for node in nodes)
    ok = disk >= DISK
    yield Finding(
        subject="disk",
        ok=ok,
        observed=f"{disk / GIB:.0f} GiB on the largest node, {DISK / GIB:.0f} needed",
        fix="" if ok else "Give the nodes larger disks",
    )


def _resource_request(pod: Mapping[str, Any], key: str) -> float:
    return sum(
        quantity(container.get("resources", {}).get("requests", {}).get(key, "0"))
        for container in pod["spec"]["containers"]
    )


def _storage(classes: Sequence[Mapping[str, Any]]) -> Finding:
    annotation = "storageclass.kubernetes.io/is-default-class"
    default = [
        storage_class["metadata"]["name"]
        for storage_class in classes
        if storage_class["metadata"].get("annotations", {}).get(annotation) == "true"
    ]
    names = ", ".join(storage_class["metadata"]["name"] for storage_class in classes) or "none"
    return Finding(
        subject="storage class",
        ok=bool(default),
        observed=f"{default[0]} is the default" if default else f"no default; available: {names}",
        fix=""
        if default
        else f"`kubectl annotate storageclass NAME {annotation}=true`, or set `storageClass` of each part",
    )
