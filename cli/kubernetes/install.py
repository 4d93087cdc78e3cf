"""Installs or upgrades the release, and waits until every part is ready or one can't become ready."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cli.kubernetes import chart_values, crds, kube, reasons
from cli.kubernetes.kube import Release
from cli.kubernetes.reasons import Reason
from cli.platforms import Watch
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT

CHARTS: Final = ROOT / "build" / "charts"
TIMEOUT: Final = 900.0
"""Seconds until every part must be ready. Only a slow registry takes most of it."""
STUCK: Final = 20.0
"""Seconds that a final reason must persist. The first pull of an image may fail by chance."""
POLL: Final = 1.0
WORKFLOWS: Final = "workflows.argoproj.io"
SCHEDULES: Final = "scheduledworkflows.kubeflow.org"
RUNS: Final = ("--selector", "pipeline/runid")
UNKNOWN_KIND: Final = "the server doesn't have a resource type"
"""What kubectl prints for a kind that the cluster has no definition of."""
KINDS: Final = "deployments,statefulsets,jobs"


def chart() -> Path:
    """Build the umbrella chart with its subcharts from this checkout; return its folder."""
    subprocess.run([ROOT / "bin" / "charts", CHARTS], check=True, stdout=subprocess.DEVNULL)
    return CHARTS / "platform"


def up(release: Release, files: Sequence[Path], sets: Sequence[str], watch: Watch) -> None:
    """Apply the custom resource definitions, run `helm upgrade --install`, then `wait`; raises PlatformError with the reason and the fix."""
    kube.namespace(release)
    platform_chart = chart()
    arguments = [word for file in files for word in ("--values", str(file))]
    arguments += [word for value in sets for word in ("--set", value)]
    start = time.monotonic()
    try:
        crds.apply(release, crds.of_release(release, platform_chart, arguments))
        kube.helm(release, "upgrade", "--install", release.name, str(platform_chart), *arguments)
    except PlatformError as error:
        if explained := chart_values.unknown_value(error.problem, platform_chart.parent):
            raise explained from error
        raise
    wait(release, watch, start)


def wait(release: Release, watch: Watch, started_at: float) -> None:
    """Wait until all Deployments, StatefulSets and Jobs of the release are ready; raises PlatformError with the reason."""
    last_states: dict[str, str] = {}
    first_times: dict[str, float] = {}
    while True:
        ready = states(release)
        for name, is_ready in ready.items():
            state = "ready" if is_ready else "starting"
            if last_states.get(name) != state:
                last_states[name] = state
                watch(name, state, time.monotonic() - started_at)
        if ready and all(ready.values()):
            return
        explanations = explain(release)
        for reason in explanations:
            first_times.setdefault(reason.what, time.monotonic())
            if reason.final and time.monotonic() - first_times[reason.what] >= STUCK:
                raise PlatformError(f"{reason.what} can't start. {reason.problem}", fix=reason.fix)
        first_times = {reason.what: first_times[reason.what] for reason in explanations if reason.final}
        if time.monotonic() - started_at > TIMEOUT:
            waiting = [name for name, is_ready in ready.items() if not is_ready]
            details = [f"{reason.what}: {reason.problem}" for reason in explanations] or _warnings(release)
            raise PlatformError(
                f"Not ready after {TIMEOUT:.0f} s: {', '.join(waiting)}. {' '.join(details)}",
                fix=explanations[0].fix if explanations else f"`kubectl --namespace {release.namespace} describe pods`",
            )
        time.sleep(POLL)


def explain(release: Release) -> list[Reason]:
    """Reasons why pods, and workloads without pods, are not ready."""
    objects = kube.items(release, "pods,deployments,statefulsets,replicasets", *kube.selector(release))
    pods = [item for item in objects if item["kind"] == "Pod" and "deletionTimestamp" not in item["metadata"]]
    workloads = [item for item in objects if item["kind"] in {"Deployment", "StatefulSet"}]
    outdated = _outdated_replica_sets([item for item in objects if item["kind"] == "ReplicaSet"])
    explanations = [
        reasons.of_pod(release, pod) for pod in pods if not outdated & {owner["uid"] for owner in _owners(pod)}
    ]
    explanations += [reasons.of_workload(workload) for workload in workloads]
    return [reason for reason in explanations if reason is not None]


def _owners(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    references: list[dict[str, Any]] = item["metadata"].get("ownerReferences", [])
    return references


def _outdated_replica_sets(replica_sets: Sequence[Mapping[str, Any]]) -> set[str]:
    """UIDs of ReplicaSets that are not their Deployment's newest. Their pods only wait to be replaced."""
    newest: dict[str, int] = {}

    def revision(replica_set: Mapping[str, Any]) -> int:
        return int(replica_set["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision", 0))

    for replica_set in replica_sets:
        for owner in _owners(replica_set):
            newest[owner["uid"]] = max(newest.get(owner["uid"], 0), revision(replica_set))
    return {
        replica_set["metadata"]["uid"]
        for replica_set in replica_sets
        if any(revision(replica_set) < newest[owner["uid"]] for owner in _owners(replica_set))
    }


def _warnings(release: Release) -> list[str]:
    """The last warning events of the release's pods, for parts without another reason."""
    pods = kube.items(release, "pods", *kube.selector(release))
    names = [pod["metadata"]["name"] for pod in pods if pod["status"].get("phase") != "Succeeded"]
    return [f"{name}: {text}" for name in names for text in reasons.last_events(release, name)]


def states(release: Release) -> dict[str, bool]:
    """Whether each workload is ready in its newest revision, by name."""
    return {
        _short(release, item["metadata"]["name"]): _ready(item)
        for item in kube.items(release, KINDS, *kube.selector(release))
        if not (item["kind"] == "Job" and "ownerReferences" in item["metadata"])  # Jobs of a CronJob
    }


def workloads(release: Release) -> dict[str, str]:
    """`kind/name` of each Deployment and StatefulSet, by its name without the release's."""
    return {
        _short(release, item["metadata"]["name"]): f"{item['kind'].lower()}/{item['metadata']['name']}"
        for item in kube.items(release, "deployments,statefulsets", *kube.selector(release))
    }


def _short(release: Release, name: str) -> str:
    return name.removeprefix(f"{release.name}-")


def _ready(item: Mapping[str, Any]) -> bool:
    status, spec = item.get("status", {}), item["spec"]
    if item["kind"] == "Job":
        return bool(status.get("succeeded"))
    replicas = spec.get("replicas", 1)
    current = status.get("observedGeneration", 0) >= item["metadata"].get("generation", 1)
    return bool(
        current
        and status.get("updatedReplicas", 0) >= replicas
        and status.get("readyReplicas", 0) >= replicas
        and status.get("replicas", 0) <= max(replicas, status.get("updatedReplicas", 0))
    )


def down(release: Release, *, data: bool) -> None:
    """Uninstall the release. `data` also deletes volumes and Secrets, except the volume of backups."""
    kube.helm(release, "uninstall", release.name, "--ignore-not-found", "--wait", "--timeout", "3m")
    if data:
        selector = f"app.kubernetes.io/instance={release.name},app.kubernetes.io/component!=backup"
        kube.kubectl(release, "delete", "pvc,secret", "--selector", selector, "--ignore-not-found")
        _delete_runs(release)


def _delete_runs(release: Release) -> None:
    """Delete what Kubeflow Pipelines has created itself: schedules, runs with their pods, and the controller's lease."""
    for kind, selection in ((SCHEDULES, ("--all",)), (WORKFLOWS, RUNS), ("pods", RUNS)):
        try:
            kube.kubectl(release, "delete", kind, *selection)
        except PlatformError as error:
            if UNKNOWN_KIND not in error.problem:
                raise
    kube.kubectl(release, "delete", "lease", "workflow-controller", "--ignore-not-found")


def workload(release: Release, part: str, project: str) -> str:
    """The workload that corresponds to the process `part` on one machine.

    Serving has one workload per project: a StatefulSet or a Deployment.
    """
    name = f"{release.name}-{part}" + (f"-{project.replace('_', '-')}" if part == "serving" else "")
    persistent = part == "serving" and kube.kubectl(
        release, "get", "statefulset", name, "--ignore-not-found", "--output", "name"
    )
    return f"{'statefulset' if part == 'prometheus' or persistent else 'deployment'}/{name}"


def tail(release: Release, part: str, project: str, lines: int = 20) -> str:
    """Last lines of the part's log, or the reason why there are none."""
    try:
        return kube.kubectl(release, "logs", workload(release, part, project), "--tail", str(lines))
    except PlatformError as error:
        return error.problem


def memory_mb(release: Release) -> float:
    """Current memory use of the release's pods in MiB, from metrics-server; 0 if it is not installed."""
    try:
        output = kube.kubectl(release, "top", "pod", "--no-headers", *kube.selector(release))
    except PlatformError:
        return 0.0
    return sum(float(line.split()[2].removesuffix("Mi")) for line in output.splitlines() if line.strip())
