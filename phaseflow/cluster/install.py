"""Install or upgrade the release, and wait until every part is ready or it is known why one can't be."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from phaseflow.cluster import kube, reasons
from phaseflow.cluster.kube import Release
from phaseflow.cluster.reasons import Reason
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT

CHARTS: Final = ROOT / "build" / "charts"
PATIENCE: Final = 900.0
"""Seconds for everything to be ready; a slow registry is the only thing that takes most of it."""
STUCK: Final = 20.0
"""Seconds that a final reason must last: an image's first pull may fail by chance."""
POLL: Final = 1.0
KINDS: Final = "deployments,statefulsets,jobs"
Watch = Callable[[str, str, float], None]
"""Told of each part: its name, "starting" or "ready", and the seconds since the beginning."""


def chart() -> Path:
    """The umbrella chart with its parts inside, made of the folders of this checkout."""
    subprocess.run([ROOT / "bin" / "charts", CHARTS], check=True, stdout=subprocess.DEVNULL)
    return CHARTS / "platform"


def up(release: Release, files: Sequence[Path], sets: Sequence[str], watch: Watch) -> None:
    """`helm upgrade --install`, then `wait`; raises PlatformError that says what is wrong and what to do."""
    kube.namespace(release)
    arguments = ["upgrade", "--install", release.name, str(chart())]
    for file in files:
        arguments += ["--values", str(file)]
    for one in sets:
        arguments += ["--set", one]
    begun = time.monotonic()
    kube.helm(release, *arguments)
    wait(release, watch, begun)


def wait(release: Release, watch: Watch, begun: float) -> None:
    """Until every Deployment, StatefulSet and Job of the release is ready; raises PlatformError with the reason."""
    seen: dict[str, str] = {}
    since: dict[str, float] = {}
    while True:
        found = states(release)
        for name, done in found.items():
            state = "ready" if done else "starting"
            if seen.get(name) != state:
                seen[name] = state
                watch(name, state, time.monotonic() - begun)
        if found and all(found.values()):
            return
        why = explain(release)
        for reason in why:
            since.setdefault(reason.what, time.monotonic())
            if reason.final and time.monotonic() - since[reason.what] >= STUCK:
                raise PlatformError(f"{reason.what} can't start. {reason.problem}", fix=reason.fix)
        since = {reason.what: since[reason.what] for reason in why if reason.final}
        if time.monotonic() - begun > PATIENCE:
            waiting = [name for name, done in found.items() if not done]
            told = [f"{reason.what}: {reason.problem}" for reason in why] or _warnings(release)
            raise PlatformError(
                f"Not ready after {PATIENCE:.0f} s: {', '.join(waiting)}. {' '.join(told)}",
                fix=why[0].fix if why else f"`kubectl --namespace {release.namespace} describe pods`",
            )
        time.sleep(POLL)


def explain(release: Release) -> list[Reason]:
    """Why what is not ready is not: of each pod, and of each workload that has none."""
    objects = kube.items(release, "pods,deployments,statefulsets,replicasets", *kube.ours(release))
    pods = [one for one in objects if one["kind"] == "Pod" and "deletionTimestamp" not in one["metadata"]]
    workloads = [one for one in objects if one["kind"] in {"Deployment", "StatefulSet"}]
    old = _replaced([one for one in objects if one["kind"] == "ReplicaSet"])
    found = [reasons.of_pod(release, pod) for pod in pods if not old & {o["uid"] for o in _owners(pod)}]
    found += [reasons.of_workload(workload) for workload in workloads]
    return [reason for reason in found if reason is not None]


def _owners(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = one["metadata"].get("ownerReferences", [])
    return found


def _replaced(sets: Sequence[Mapping[str, Any]]) -> set[str]:
    """Ids of ReplicaSets that are not their Deployment's newest: their pods only wait for the new ones."""
    newest: dict[str, int] = {}

    def revision(one: Mapping[str, Any]) -> int:
        return int(one["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision", 0))

    for one in sets:
        for owner in _owners(one):
            newest[owner["uid"]] = max(newest.get(owner["uid"], 0), revision(one))
    return {
        one["metadata"]["uid"] for one in sets if any(revision(one) < newest[owner["uid"]] for owner in _owners(one))
    }


def _warnings(release: Release) -> list[str]:
    """The last warnings about pods that say nothing themselves."""
    pods = kube.items(release, "pods", *kube.ours(release))
    names = [pod["metadata"]["name"] for pod in pods if pod["status"].get("phase") != "Succeeded"]
    return [f"{name}: {text}" for name in names for text in reasons.last_events(release, name)]


def states(release: Release) -> dict[str, bool]:
    """Whether each workload is as its newest revision says."""
    return {
        _short(release, one["metadata"]["name"]): _ready(one)
        for one in kube.items(release, KINDS, *kube.ours(release))
        if not (one["kind"] == "Job" and "ownerReferences" in one["metadata"])  # a CronJob's runs
    }


def _short(release: Release, name: str) -> str:
    return name.removeprefix(f"{release.name}-")


def _ready(one: Mapping[str, Any]) -> bool:
    status, spec = one.get("status", {}), one["spec"]
    if one["kind"] == "Job":
        return bool(status.get("succeeded"))
    wanted = spec.get("replicas", 1)
    current = status.get("observedGeneration", 0) >= one["metadata"].get("generation", 1)
    return bool(
        current
        and status.get("updatedReplicas", 0) >= wanted
        and status.get("readyReplicas", 0) >= wanted
        and status.get("replicas", 0) <= max(wanted, status.get("updatedReplicas", 0))
    )


def down(release: Release, *, data: bool) -> None:
    """Uninstall; with `data` the volumes and the kept secrets go too. The volume of backups stays in any case."""
    kube.helm(release, "uninstall", release.name, "--ignore-not-found", "--wait", "--timeout", "3m")
    if data:
        what = f"app.kubernetes.io/instance={release.name},app.kubernetes.io/component!=backup"
        kube.kubectl(release, "delete", "pvc,secret", "--selector", what, "--ignore-not-found")


def workload(release: Release, part: str, project: str) -> str:
    """The object whose pods do what the process `part` does on one machine; serving has one a project, of either kind."""
    name = f"{release.name}-{part}" + (f"-{project.replace('_', '-')}" if part == "serving" else "")
    persistent = part == "serving" and kube.kubectl(
        release, "get", "statefulset", name, "--ignore-not-found", "--output", "name"
    )
    return f"{'statefulset' if part == 'prometheus' or persistent else 'deployment'}/{name}"


def tail(release: Release, part: str, project: str, lines: int = 20) -> str:
    """The part's last lines; the reason where there are none."""
    try:
        return kube.kubectl(release, "logs", workload(release, part, project), "--tail", str(lines))
    except PlatformError as error:
        return error.problem


def memory_mb(release: Release) -> float:
    """Memory that the release's pods use now, in MiB, as metrics-server says; 0 where there is none."""
    try:
        said = kube.kubectl(release, "top", "pod", "--no-headers", *kube.ours(release))
    except PlatformError:
        return 0.0
    return sum(float(line.split()[2].removesuffix("Mi")) for line in said.splitlines() if line.strip())
