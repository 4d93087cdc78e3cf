"""Explains why a pod is not ready, from its own status and log instead of a mere timeout."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cli.kubernetes import kube
from cli.kubernetes.kube import Release
from phaseflow.errors import PlatformError

IMAGE: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable"}
)
CONFIG: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
MOUNTED: Final = re.compile(r'((?:secret|configmap|persistentvolumeclaim) "[^"]+" not found)')
SLOW_SECONDS: Final = 15.0
"""Age of a pod without a running container after which its events are read."""
LINES: Final = 8
"""Lines to show of a crashed container's log."""
CRASHES: Final = 3
"""Restarts after which waiting for a container ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why something is not ready."""

    what: str
    """Name of the pod, or of a workload without pods."""
    problem: str
    fix: str
    final: bool
    """Whether waiting longer is useless."""


def of_pod(release: Release, pod: dict[str, Any]) -> Reason | None:
    """Why the pod is not ready; None if it is ready or still starting."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container["state"].get("waiting", {})
        reason, message = waiting.get("reason", ""), " ".join(waiting.get("message", "").split())
        if reason in IMAGE:
            return Reason(
                what=name,
                problem=f"The image {container['image']!r} can't be had ({reason}): {message[:300]}",
                fix="Correct its name or tag, load it into the cluster (`kind load docker-image`), or set "
                "`global.images.registry` (phaseflow's own) or `global.images.mirror` to a registry that has it",
                final=True,
            )
        if reason in CONFIG:
            return Reason(
                what=name,
                problem=f"{container['name']}: {message}",
                fix="Create what the message names, then wait or restart",
                final=False,
            )
        termination = container["state"].get("terminated") or container.get("lastState", {}).get("terminated")
        if termination and termination.get("exitCode") and not container.get("ready"):
            log = _tail(release, name, container["name"], previous="terminated" not in container["state"])
            cause = termination.get("reason", "Error")
            fix = "Increase its memory limit" if cause == "OOMKilled" else "Read its last lines above"
            return Reason(
                what=name,
                problem=f"{container['name']} exited with {termination['exitCode']} ({cause}), "
                f"{container['restartCount']} restarts. Its last lines:\n{log}",
                fix=fix,
                final=container["restartCount"] >= CRASHES,
            )
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Reason(
                what=name,
                problem=f"It can't be scheduled: {condition.get('message', condition.get('reason', ''))}",
                fix="Add a node or memory, choose `values-small.yaml`, or name a storage class that exists",
                final=False,
            )
    return _of_volumes(release, pod)


def _of_volumes(release: Release, pod: dict[str, Any]) -> Reason | None:
    """Why a scheduled pod can't mount its volumes, which only its events show."""
    created, name = pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]
    if pod.get("status", {}).get("phase") != "Pending" or not created:
        return None
    if (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds() < SLOW_SECONDS:
        return None
    for event in reversed(last_events(release, name)):
        missing = MOUNTED.search(event)
        if missing:
            return Reason(
                what=name,
                problem=f"A volume can't be mounted: {missing[1]}",
                fix="Create it in the release's namespace, or correct the value that names it",
                final=True,
            )
    return None


def of_workload(workload: dict[str, Any]) -> Reason | None:
    """Why Kubernetes refused to create pods of the workload; None if it did not."""
    for condition in workload.get("status", {}).get("conditions", ()):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return Reason(
                what=workload["metadata"]["name"],
                problem=condition["message"],
                fix="Correct what the message names (a quota or a policy)",
                final=True,
            )
    return None


def last_events(release: Release, name: str, limit: int = 3) -> list[str]:
    """Messages of the last warning events of the object `name`."""
    events = kube.items(release, "events", "--field-selector", f"involvedObject.name={name},type=Warning")
    events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return [f"{event['reason']}: {' '.join(event['message'].split())}" for event in events[-limit:]]


def _tail(release: Release, pod: str, container: str, *, previous: bool) -> str:
    arguments = ["logs", pod, "--container", container, "--tail", str(LINES), *(["--previous"] if previous else [])]
    try:
        text = kube.kubectl(release, *arguments).strip()
    except PlatformError:  # it is gone, or never started
        text = ""
    return "\n".join(f"  | {line}" for line in text.splitlines()) or "  | (no output)"
