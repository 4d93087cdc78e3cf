"""Why a pod is not ready: its own words, never just "timed out"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from phaseflow.cluster import kube
from phaseflow.cluster.kube import Release
from phaseflow.errors import PlatformError

IMAGE: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable"}
)
CONFIG: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
MOUNTED: Final = re.compile(r'((?:secret|configmap|persistentvolumeclaim) "[^"]+" not found)')
SLOW_SECONDS: Final = 15.0
"""Of a pod without a container: then its events are read."""
LINES: Final = 8
"""Of a crashed container's log."""
CRASHES: Final = 3
"""Restarts after which a container is not waited for any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why something is not ready."""

    what: str
    """Pod, or the workload that has none."""
    problem: str
    fix: str
    final: bool
    """Whether waiting does not help."""


def of_pod(release: Release, pod: dict[str, Any]) -> Reason | None:
    """Why the pod is not ready; None where it is, or where it is only starting."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for one in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = one["state"].get("waiting", {})
        reason, said = waiting.get("reason", ""), " ".join(waiting.get("message", "").split())
        if reason in IMAGE:
            return Reason(
                what=name,
                problem=f"The image {one['image']!r} can't be had ({reason}): {said[:300]}",
                fix="Correct its name or tag, load it into the cluster (`kind load docker-image`), or name a registry "
                "that has it by `global.images.registry`",
                final=True,
            )
        if reason in CONFIG:
            return Reason(
                what=name, problem=f"{one['name']}: {said}", fix="Make what it names, then wait or restart", final=False
            )
        ended = one["state"].get("terminated") or one.get("lastState", {}).get("terminated")
        if ended and ended.get("exitCode") and not one.get("ready"):
            log = _tail(release, name, one["name"], previous="terminated" not in one["state"])
            why = ended.get("reason", "Error")
            fix = "Raise its memory limit" if why == "OOMKilled" else "Read the lines above: they are its own"
            return Reason(
                what=name,
                problem=f"{one['name']} ended with {ended['exitCode']} ({why}), {one['restartCount']} restarts. Its last lines:\n{log}",
                fix=fix,
                final=one["restartCount"] >= CRASHES,
            )
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Reason(
                what=name,
                problem=f"No node takes it: {condition.get('message', condition.get('reason', ''))}",
                fix="Add a node or memory, choose `values-small.yaml`, or name a storage class that exists",
                final=False,
            )
    return _of_volumes(release, pod)


def _of_volumes(release: Release, pod: dict[str, Any]) -> Reason | None:
    """What a pod on a node mounts that is not there: only its events tell."""
    made, name = pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]
    if pod.get("status", {}).get("phase") != "Pending" or not made:
        return None
    if (datetime.now(UTC) - datetime.fromisoformat(made)).total_seconds() < SLOW_SECONDS:
        return None
    for event in reversed(last_events(release, name)):
        missing = MOUNTED.search(event)
        if missing:
            return Reason(
                what=name,
                problem=f"It mounts what is not there: {missing[1]}",
                fix="Make it in the release's namespace, or correct the value that names it",
                final=True,
            )
    return None


def of_workload(workload: dict[str, Any]) -> Reason | None:
    """Why the workload has no pod: what Kubernetes refused to make."""
    for condition in workload.get("status", {}).get("conditions", ()):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return Reason(
                what=workload["metadata"]["name"],
                problem=condition["message"],
                fix="Correct what it names (a quota, a policy)",
                final=True,
            )
    return None


def last_events(release: Release, name: str, most: int = 3) -> list[str]:
    """The last warnings about the object `name`."""
    found = kube.items(release, "events", "--field-selector", f"involvedObject.name={name},type=Warning")
    found.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return [f"{event['reason']}: {' '.join(event['message'].split())}" for event in found[-most:]]


def _tail(release: Release, pod: str, container: str, *, previous: bool) -> str:
    arguments = ["logs", pod, "--container", container, "--tail", str(LINES), *(["--previous"] if previous else [])]
    try:
        text = kube.kubectl(release, *arguments).strip()
    except PlatformError:  # gone, or never begun
        text = ""
    return "\n".join(f"  | {line}" for line in text.splitlines()) or "  | (it printed nothing)"
