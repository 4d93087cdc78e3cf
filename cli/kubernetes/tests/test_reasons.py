"""Reasons and quantities from objects as Kubernetes returns them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.kubernetes import doctor, install, kube, reasons
from cli.kubernetes.kube import Release
from phaseflow.errors import PlatformError

RELEASE = Release()


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x-0", "namespace": "phaseflow"}, "spec": {"containers": []}, "status": status}


def container(**state: Any) -> dict[str, Any]:
    return {"name": "main", "image": "prom/prometheus:v0", "ready": False, "restartCount": 0, "state": state}


def test_an_image_that_cant_be_pulled_is_named_with_the_fix() -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image\n 'x'"}
    reason = reasons.of_pod(RELEASE, pod(containerStatuses=[container(waiting=waiting)]))
    assert reason is not None
    assert reason.final
    assert reason.problem == (
        "The image 'prom/prometheus:v0' can't be had (ImagePullBackOff): Back-off pulling image 'x'"
    )
    assert "global.images.registry" in reason.fix
    assert "global.images.mirror" in reason.fix


def test_a_crash_shows_the_last_lines_and_is_final_after_three(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []

    def kubectl(_: Release, *arguments: str, stdin: str | None = None) -> str:
        calls.append(arguments)
        return "first\nno such table\n"

    monkeypatch.setattr(kube, "kubectl", kubectl)
    crashed = container(waiting={"reason": "CrashLoopBackOff"}) | {
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
        "restartCount": 2,
    }
    reason = reasons.of_pod(RELEASE, pod(containerStatuses=[crashed]))
    assert reason is not None
    assert not reason.final
    assert reason.problem.endswith("2 restarts. Its last lines:\n  | first\n  | no such table")
    assert "--previous" in calls[0]
    reason = reasons.of_pod(RELEASE, pod(containerStatuses=[crashed | {"restartCount": 3}]))
    assert reason is not None
    assert reason.final


def test_an_unschedulable_pod_is_explained_and_waited_for() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "message": "0/1 nodes are available: 1 Insufficient memory.",
    }
    reason = reasons.of_pod(RELEASE, pod(conditions=[condition]))
    assert reason is not None
    assert not reason.final
    assert reason.problem == "It can't be scheduled: 0/1 nodes are available: 1 Insufficient memory."


def test_a_missing_secret_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    message = 'MountVolume.SetUp failed for volume "secrets" : secret "mine" not found'
    events = [{"reason": "FailedMount", "message": message, "lastTimestamp": "2026-01-01T00:00:09Z"}]
    monkeypatch.setattr(kube, "items", lambda *_: events)
    pending = pod(phase="Pending", containerStatuses=[container(waiting={"reason": "ContainerCreating"})])
    pending["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    reason = reasons.of_pod(RELEASE, pending)
    assert reason is not None
    assert reason.final
    assert reason.problem == 'A volume can\'t be mounted: secret "mine" not found'
    assert "correct the value that names it" in reason.fix
    pending["metadata"]["creationTimestamp"] = datetime.now(UTC).isoformat()
    assert reasons.of_pod(RELEASE, pending) is None


def test_a_pod_that_starts_or_runs_needs_no_reason() -> None:
    assert reasons.of_pod(RELEASE, pod(containerStatuses=[container(waiting={"reason": "PodInitializing"})])) is None
    running = container(running={}) | {"ready": True, "lastState": {"terminated": {"exitCode": 1}}}
    assert reasons.of_pod(RELEASE, pod(containerStatuses=[running])) is None


def test_a_rejected_pod_is_explained() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": 'pods "x" is forbidden: violates PodSecurity'}
    reason = reasons.of_workload({"metadata": {"name": "x"}, "status": {"conditions": [condition]}})
    assert reason is not None
    assert reason.final
    assert "violates PodSecurity" in reason.problem


def test_pods_of_an_older_revision_explain_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def replica_set(uid: str, revision: int) -> dict[str, Any]:
        return {
            "kind": "ReplicaSet",
            "metadata": {
                "uid": uid,
                "annotations": {"deployment.kubernetes.io/revision": str(revision)},
                "ownerReferences": [{"uid": "deployment"}],
            },
        }

    waiting = {"reason": "ErrImagePull", "message": "no"}
    broken = pod(containerStatuses=[container(waiting=waiting)]) | {"kind": "Pod"}
    broken["metadata"]["ownerReferences"] = [{"uid": "old"}]
    objects = [broken, replica_set("old", 1), replica_set("new", 2)]
    monkeypatch.setattr(kube, "items", lambda *_: objects)
    assert install.explain(RELEASE) == []
    monkeypatch.setattr(kube, "items", lambda *_: objects[:2])
    assert [reason.what for reason in install.explain(RELEASE)] == ["x-0"]


def test_a_missing_program_is_named_with_its_installation_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PlatformError, match=r"helm is not on the PATH. Install it: https://helm.sh"):
        kube.program("helm")


@pytest.mark.parametrize(
    ("text", "value"), [("250m", 0.25), ("2", 2.0), ("1Gi", 2.0**30), ("512Ki", 2.0**19), ("1500M", 1.5e9), ("0", 0.0)]
)
def test_quantities_are_read_as_kubernetes_writes_them(text: str, value: float) -> None:
    assert doctor.quantity(text) == value


@given(st.integers(0, 10**6), st.sampled_from(["", "m", "k", "Ki", "M", "Mi", "G", "Gi"]))
def test_a_larger_number_is_a_larger_quantity(number: int, unit: str) -> None:
    assert doctor.quantity(f"{number + 1}{unit}") > doctor.quantity(f"{number}{unit}")


def test_a_malformed_quantity_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'1 GiB' is not a Kubernetes quantity"):
        doctor.quantity("1 GiB")
