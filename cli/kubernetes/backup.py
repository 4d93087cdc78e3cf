"""Back up and restore with Jobs that are created from the chart's two CronJobs.

A restore stops the parts that write to the databases while it runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from typing import Any, Final

from cli.kubernetes import install, kube, reasons
from cli.kubernetes.kube import Release
from cli.platforms import Say
from phaseflow.errors import PlatformError

TIMEOUT: Final = 3600.0
"""Seconds for a Job that sets no deadline. A large store takes long."""
GRACE: Final = 60.0
"""Seconds that Kubernetes may take to end a Job after its deadline."""
STOP_SECONDS: Final = 180.0
POLL: Final = 1.0
READERS: Final = ("proxy", "portal", "grafana", "alertmanager", "serving")
"""Parts that keep running during a restore because they write to no database."""


def save(release: Release, say: Say) -> str:
    """Run the backup Job until it ends; return its last output."""
    return _run(release, "backup", [], say)


def restore(release: Release, at: str, say: Say) -> str:
    """Stop the parts that write to the databases, restore the backup `at`, and start them again.

    An empty `at` restores the newest backup. Returns the last output of the Job.
    """
    counts = {
        deployment["metadata"]["name"]: deployment["spec"].get("replicas", 1)
        for deployment in kube.items(release, "deployments", *kube.selector(release))
        if not deployment["metadata"]["name"].removeprefix(f"{release.name}-").startswith(READERS)
    }
    say("stopping the parts that write to the databases")
    try:
        for name in counts:
            kube.kubectl(release, "scale", "deployment", name, "--replicas=0")
        _until_stopped(release, counts)
        return _run(release, "restore", ["--at", at] if at else [], say)
    finally:
        say("starting them again")
        for name, count in counts.items():
            kube.kubectl(release, "scale", "deployment", name, f"--replicas={count}")
        install.wait(release, lambda *_: None, time.monotonic())


def _until_stopped(release: Release, names: Collection[str]) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while running := [
        deployment["metadata"]["name"]
        for deployment in kube.items(release, "deployments", *kube.selector(release))
        if deployment["metadata"]["name"] in names and deployment.get("status", {}).get("replicas")
    ]:
        if time.monotonic() > deadline:
            raise PlatformError(
                f"{', '.join(running)} did not stop within {STOP_SECONDS:.0f} s",
                fix=f"Run `{release.command} status`",
            )
        time.sleep(POLL)


def _run(release: Release, action: str, arguments: list[str], say: Say) -> str:
    """Run a Job of the CronJob, and return its last output; raises PlatformError with that output if it fails."""
    name = f"{release.name}-{action}-{time.strftime('%Y%m%d%H%M%S', time.gmtime())}"
    try:
        manifest = kube.kubectl(
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
                f"The release {release.name!r} keeps no backups",
                fix=f"Enable them: `{release.command} up --set backup.enabled=true`",
            ) from error
        raise
    job: dict[str, Any] = json.loads(manifest)
    pod = job["spec"]["template"]["spec"]
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        if container["name"] == "objects":
            container["args"] += arguments
    kube.kubectl(release, "create", "--filename", "-", stdin=json.dumps(job))
    deadline = job["spec"].get("activeDeadlineSeconds")
    timeout = deadline + GRACE if deadline else TIMEOUT
    latest = time.monotonic() + timeout
    while time.monotonic() < latest:
        status = json.loads(kube.kubectl(release, "get", "job", name, "--output", "json")).get("status", {})
        say(f"{name}: {'running' if status.get('active') else 'waiting'}")
        if status.get("succeeded"):
            return _last_lines(release, name)
        if any(
            condition["type"] == "Failed" and condition["status"] == "True"
            for condition in status.get("conditions", ())
        ):
            raise PlatformError(
                f"{name} failed. Its last output: {_last_lines(release, name)}", fix=_logs_command(release, name)
            )
        for reason in filter(None, (reasons.of_pod(release, pod) for pod in _pods(release, name))):
            if reason.final:
                raise PlatformError(f"{name} can't run. {reason.problem}", fix=reason.fix)
        time.sleep(POLL)
    raise PlatformError(f"{name} did not end within {timeout:.0f} s", fix=_logs_command(release, name))


def _pods(release: Release, job: str) -> list[dict[str, Any]]:
    return kube.items(release, "pods", "--selector", f"job-name={job}")


def _last_lines(release: Release, job: str) -> str:
    """Last lines of each container of the Job's newest pod."""
    pods = sorted(_pods(release, job), key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
    lines = []
    for container in (*pods[-1]["spec"].get("initContainers", ()), *pods[-1]["spec"]["containers"]) if pods else ():
        try:
            output = kube.kubectl(
                release, "logs", pods[-1]["metadata"]["name"], "--container", container["name"], "--tail", "3"
            ).strip()
        except PlatformError:  # the container never started
            continue
        if output:
            lines.append(f"{container['name']}: {output}")
    return "\n".join(lines)


def _logs_command(release: Release, job: str) -> str:
    return f"`kubectl -n {release.namespace} logs job/{job} --all-containers`"
