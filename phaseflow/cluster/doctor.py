"""What a cluster must have for the platform, each with the fix, before anything is installed."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from phaseflow.cluster import kube
from phaseflow.cluster.kube import Release
from phaseflow.embedded.machine import GIB, Finding
from phaseflow.errors import PlatformError

KUBERNETES: Final = (1, 30)
HELM: Final = (3, 14)
ARCHITECTURES: Final = frozenset({"amd64", "arm64"})
DISK: Final = 20 * GIB
"""Images take some 6 GiB; volumes and logs grow."""
NEEDED: Final[Mapping[str, tuple[float, int]]] = {"small": (2.0, 6 * GIB), "kind": (4.0, 8 * GIB)}
"""CPUs and bytes of memory that a profile works in; production's depend on its replicas."""
INOTIFY: Final = {"max_user_instances": 512, "max_user_watches": 65_536}
"""Below it the processes in kind's nodes, which share this machine's kernel, fail with "too many open files"."""
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
    """A number as Kubernetes writes it: "250m" is 0.25, "1Gi" is 1073741824."""
    found = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", text)
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"{text!r} is no quantity of Kubernetes")
    return float(found[1]) * _UNITS[found[2]]


def programs(names: Sequence[str]) -> Iterator[Finding]:
    """Whether each is on the PATH."""
    for name in names:
        try:
            yield Finding(subject=name, ok=True, found=kube.program(name))
        except PlatformError as error:
            yield Finding(subject=name, ok=False, found="not on the PATH", fix=error.fix)


def machine() -> Iterator[Finding]:
    """What kind's nodes take from this machine."""
    for name, needed in INOTIFY.items():
        path = Path("/proc/sys/fs/inotify", name)
        if path.exists():
            found = int(path.read_text())
            fix = "" if found >= needed else f"`sudo sysctl fs.inotify.{name}={needed}`"
            yield Finding(subject=f"inotify {name}", ok=found >= needed, found=f"{found}, {needed} needed", fix=fix)
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    yield Finding(
        subject="architecture",
        ok=arch in ARCHITECTURES,
        found=arch,
        fix="" if arch in ARCHITECTURES else f"Use a machine of {' or '.join(sorted(ARCHITECTURES))}",
    )


def cluster(release: Release, profile: str) -> Iterator[Finding]:
    """What `KUBECONFIG`'s cluster has. One that does not answer is the only finding."""
    try:
        version = json.loads(kube.kubectl(release, "version", "--output", "json"))["serverVersion"]
    except (PlatformError, KeyError) as error:
        said = error.problem if isinstance(error, PlatformError) else "no server version"
        fix = "Start a cluster (`make cluster` makes one with kind), or set KUBECONFIG to yours"
        yield Finding(subject="cluster", ok=False, found=said[:300], fix=fix)
        return
    yield _version("kubernetes", version["gitVersion"], KUBERNETES, "Upgrade the cluster")
    yield _version(
        "helm version", kube.helm(release, "version", "--short").strip(), HELM, f"Upgrade helm: {kube.TOOLS['helm']}"
    )
    nodes = kube.items(release, "nodes")
    yield _architecture(nodes)
    yield from _room(nodes, kube.items(release, "pods", "--all-namespaces"), release, profile)
    yield _storage(kube.items(release, "storageclasses"))


def _version(subject: str, text: str, least: tuple[int, int], fix: str) -> Finding:
    found = re.search(r"v?(\d+)\.(\d+)", text)
    ok = found is not None and (int(found[1]), int(found[2])) >= least
    wanted = ".".join(map(str, least))
    return Finding(subject=subject, ok=ok, found=f"{text}, {wanted} needed", fix="" if ok else fix)


def _architecture(nodes: Sequence[Mapping[str, Any]]) -> Finding:
    found = {node["status"]["nodeInfo"]["architecture"] for node in nodes}
    ok = bool(found & ARCHITECTURES)
    return Finding(
        subject="architecture",
        ok=ok,
        found=", ".join(sorted(found)),
        fix="" if ok else f"Add nodes of {' or '.join(sorted(ARCHITECTURES))}",
    )


def _room(
    nodes: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]], release: Release, profile: str
) -> Iterator[Finding]:
    """CPU and memory that nobody has asked for, and disk, of the nodes together."""
    others = [
        pod
        for pod in pods
        if pod["status"].get("phase") in {"Pending", "Running"}
        and not (
            pod["metadata"]["namespace"] == release.namespace
            and pod["metadata"].get("labels", {}).get("app.kubernetes.io/instance") == release.name
        )
    ]
    wanted = NEEDED.get(profile)
    for kind, place, unit, size in (("CPU", 0, "cores", 1.0), ("memory", 1, "GiB", float(GIB))):
        key = kind.lower()
        free = sum(quantity(node["status"]["allocatable"][key]) for node in nodes) - sum(
            _asked(pod, key) for pod in others
        )
        if wanted is None:
            yield Finding(subject=kind, ok=True, found=f"{free / size:.1f} {unit} free", required=False)
            continue
        needed = float(wanted[place])
        # A node keeps some of its memory for itself: a machine of 6 GiB offers a little less.
        ok = free >= 0.9 * needed
        fix = "" if ok else "Add a node, or free what others ask for (`kubectl describe nodes`)"
        yield Finding(subject=kind, ok=ok, found=f"{free / size:.1f} {unit} free, {needed / size:.0f} needed", fix=fix)
    disk = max(quantity(node["status"]["allocatable"].get("ephemeral-storage", "0")) for node in nodes)
    ok = disk >= DISK
    yield Finding(
        subject="disk",
        ok=ok,
        found=f"{disk / GIB:.0f} GiB on the largest node, {DISK / GIB:.0f} needed",
        fix="" if ok else "Give the nodes larger disks",
    )


def _asked(pod: Mapping[str, Any], key: str) -> float:
    return sum(
        quantity(container.get("resources", {}).get("requests", {}).get(key, "0"))
        for container in pod["spec"]["containers"]
    )


def _storage(classes: Sequence[Mapping[str, Any]]) -> Finding:
    mark = "storageclass.kubernetes.io/is-default-class"
    default = [one["metadata"]["name"] for one in classes if one["metadata"].get("annotations", {}).get(mark) == "true"]
    names = ", ".join(one["metadata"]["name"] for one in classes) or "none"
    return Finding(
        subject="storage class",
        ok=bool(default),
        found=f"{default[0]} is the default" if default else f"no default one; there are: {names}",
        fix=""
        if default
        else f"`kubectl annotate storageclass NAME {mark}=true`, or name one in each part's `storageClass`",
    )
