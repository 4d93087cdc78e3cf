"""Checks the container engine and kind before anything is built. Each failed check has a fix."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cli.kubernetes import kube
from cli.kubernetes.doctor import DISK, REQUIREMENTS, TOLERANCE, version_finding
from cli.local.machine import GIB, Finding
from phaseflow.errors import PlatformError

KIND: Final = (0, 23)
"""The first kind whose nodes have Kubernetes 1.30 by default (`doctor.KUBERNETES`)."""
START: Final = "Start it: Docker Desktop, `colima start`, or `sudo systemctl start docker`; `docker info` must succeed"
RESIZE: Final = "Give it more: Docker Desktop > Settings > Resources, or `colima start --cpu 4 --memory 8`"


def findings(profile: str) -> Iterator[Finding]:
    """Check that docker's engine responds and has the profile's resources, and that kind is new enough."""
    info, problem = _info()
    yield Finding(
        subject="container engine", ok=not problem, observed=problem or "responds", fix=START if problem else ""
    )
    if not problem:
        yield from _resources(info, profile)
        yield _disk(info)
    yield version_finding("kind version", _output("kind", "version")[0], KIND, f"Upgrade kind: {kube.TOOLS['kind']}")


def _output(name: str, *arguments: str) -> tuple[str, str]:
    """Output of a program, and its error output if it fails."""
    try:
        argv = [kube.program(name), *arguments]
    except PlatformError as error:
        return "", error.problem
    completed = subprocess.run(argv, capture_output=True, text=True, check=False)
    return completed.stdout.strip(), completed.stderr.strip() if completed.returncode else ""


def _info() -> tuple[Mapping[str, Any], str]:
    """The engine's description of itself, and why there is none."""
    output, problem = _output("docker", "info", "--format", "{{json .}}")
    try:
        info = json.loads(output)
    except ValueError:
        info = {}
    return info, problem or ("" if info.get("MemTotal") else "`docker info` describes no engine")


def _resources(info: Mapping[str, Any], profile: str) -> Iterator[Finding]:
    """Check CPUs and memory of the engine, which may be a virtual machine with less than this machine has."""
    cpus, memory = REQUIREMENTS.get(profile, (0.0, 0))
    ok = info["NCPU"] >= cpus
    observed = f"{info['NCPU']}, {cpus:.0f} needed"
    yield Finding(subject="engine CPU", ok=ok, observed=observed, fix="" if ok else RESIZE)
    ok = info["MemTotal"] >= TOLERANCE * memory
    observed = f"{info['MemTotal'] / GIB:.1f} GiB, {memory / GIB:.0f} needed"
    yield Finding(subject="engine memory", ok=ok, observed=observed, fix="" if ok else RESIZE)


def _disk(info: Mapping[str, Any]) -> Finding:
    """Check the free disk of the engine, if it runs on this machine."""
    folder = info["DockerRootDir"]
    if info.get("Name") != platform.node():
        observed = f"on {info.get('Name')}, which this machine can't see; {DISK / GIB:.0f} GiB needed"
        return Finding(subject="engine disk", ok=True, observed=observed, required=False)
    free = shutil.disk_usage(folder).free
    ok = free >= DISK
    return Finding(
        subject="engine disk",
        ok=ok,
        observed=f"{free / GIB:.0f} GiB free at {folder}, {DISK / GIB:.0f} needed",
        fix="" if ok else "Free disk space: `docker system prune` removes what no container uses",
    )
