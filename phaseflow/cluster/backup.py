"""Back up now, and restore: Jobs of the chart's two CronJobs, with what writes to the databases stopped meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from phaseflow.cluster import install, kube, reasons
from phaseflow.cluster.kube import Release
from phaseflow.errors import PlatformError

PATIENCE: Final = 3600.0
"""Seconds for a Job without a deadline of its own: a large store takes long."""
GRACE: Final = 60.0
"""Seconds after a Job's deadline within which Kubernetes ends it."""
STOP_SECONDS: Final = 180.0
POLL: Final = 1.0
READERS: Final = ("door", "portal", "grafana", "alertmanager", "serving")
"""Parts that go on during a restore: they write to no database."""
Say = Callable[[str], None]


def save(release: Release, say: Say) -> str:
    """Run the backup's Job to its end; gives what it says."""
    return _run(release, "backup", [], say)


def restore(release: Release, at: str, say: Say) -> str:
    """Stop what writes, bring the backup `at` back (the last where empty), start it again; gives what was restored."""
    counts = {
        one["metadata"]["name"]: one["spec"].get("replicas", 1)
        for one in kube.items(release, "deployments", *kube.ours(release))
        if not one["metadata"]["name"].removeprefix(f"{release.name}-").startswith(READERS)
    }
    say("stops what writes to the databases")
    try:
        for name in counts:
            kube.kubectl(release, "scale", "deployment", name, "--replicas=0")
        _until_stopped(release, counts)
        return _run(release, "restore", ["--at", at] if at else [], say)
    finally:
        say("starts it again")
        for name, count in counts.items():
            kube.kubectl(release, "scale", "deployment", name, f"--replicas={count}")
        install.wait(release, lambda *_: None, time.monotonic())


def _until_stopped(release: Release, names: Collection[str]) -> None:
    end = time.monotonic() + STOP_SECONDS
    while running := [
        one["metadata"]["name"]
        for one in kube.items(release, "deployments", *kube.ours(release))
        if one["metadata"]["name"] in names and one.get("status", {}).get("replicas")
    ]:
        if time.monotonic() > end:
            raise PlatformError(
                f"{', '.join(running)} did not stop within {STOP_SECONDS:.0f} s",
                fix="Look at `phaseflow cluster status`",
            )
        time.sleep(POLL)


def _run(release: Release, action: str, arguments: list[str], say: Say) -> str:
    """A Job of the CronJob; raises PlatformError with its last lines where it fails."""
    name = f"{release.name}-{action}-{time.strftime('%Y%m%d%H%M%S', time.gmtime())}"
    try:
        made = kube.kubectl(
            release,
            "create",
            "job",
            name,
            f"--from=cronjob/{release.name}-{action}",
            "--dry-run=client",
            "--output",
            "json",
        )
    except PlatformError as error:
        if "not found" in error.problem:
            raise PlatformError(
                f"The release {release.name!r} keeps no backups", fix="Switch them on: `--set backup.enabled=true`"
            ) from error
        raise
    job: dict[str, Any] = json.loads(made)
    pod = job["spec"]["template"]["spec"]
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        if container["name"] == "objects":
            container["args"] += arguments
    kube.kubectl(release, "create", "--filename", "-", stdin=json.dumps(job))
    deadline = job["spec"].get("activeDeadlineSeconds")
    patience = deadline + GRACE if deadline else PATIENCE
    end = time.monotonic() + patience
    while time.monotonic() < end:
        status = json.loads(kube.kubectl(release, "get", "job", name, "--output", "json")).get("status", {})
        say(f"{name}: {'runs' if status.get('active') else 'waits'}")
        if status.get("succeeded"):
            return _said(release, name)
        if any(one["type"] == "Failed" and one["status"] == "True" for one in status.get("conditions", ())):
            raise PlatformError(f"{name} failed. It said: {_said(release, name)}", fix=_look(release, name))
        for why in filter(None, (reasons.of_pod(release, pod) for pod in _pods(release, name))):
            if why.final:
                raise PlatformError(f"{name} can't run. {why.problem}", fix=why.fix)
        time.sleep(POLL)
    raise PlatformError(f"{name} did not end within {patience:.0f} s", fix=_look(release, name))


def _pods(release: Release, job: str) -> list[dict[str, Any]]:
    return kube.items(release, "pods", "--selector", f"job-name={job}")


def _said(release: Release, job: str) -> str:
    """The last line of each container of the Job's newest pod."""
    pods = sorted(_pods(release, job), key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
    lines = []
    for container in (*pods[-1]["spec"].get("initContainers", ()), *pods[-1]["spec"]["containers"]) if pods else ():
        try:
            said = kube.kubectl(
                release, "logs", pods[-1]["metadata"]["name"], "--container", container["name"], "--tail", "3"
            ).strip()
        except PlatformError:  # it never began
            continue
        if said:
            lines.append(f"{container['name']}: {said}")
    return "\n".join(lines)


def _look(release: Release, job: str) -> str:
    return f"`kubectl -n {release.namespace} logs job/{job} --all-containers`"
