"""Checks that the registries have every third-party image, built for the architectures of the nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Set
from typing import Final

from cli.kubernetes.cluster import ARM64
from cli.kubernetes.doctor import KUBEFLOW
from cli.local.machine import Finding
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT

PULL: Final = "Set `global.images.mirror` to a registry that has it; `make mirror REGISTRY=…` fills one"
ARCHITECTURE: Final = (
    "Run on other nodes: `--set 'global.pod.nodeSelector.kubernetes\\.io/arch=ARCHITECTURE'`, "
    "or name another build in the value that helm/images.lock.yaml lists"
)


def findings(profile: str, architectures: Set[str]) -> Iterator[Finding]:
    """Check the images of the profile. Raises PlatformError if the registries can't be asked."""
    argv = [sys.executable, "-m", "cli.charts", "reach"]
    argv += [] if profile in KUBEFLOW else ["--without", "kubeflow-pipelines"]
    argv += ["--values", str(ARM64)] if "arm64" in architectures else []
    argv += [word for name in sorted(architectures) for word in ("--architecture", name)]
    completed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise PlatformError(
            completed.stderr.strip() or "The images could not be checked", fix="Run `python -m cli.charts reach`"
        )
    for reference, problem in json.loads(completed.stdout).items():
        fix = (ARCHITECTURE if "no build for" in problem else PULL) if problem else ""
        yield Finding(subject=reference, ok=not problem, observed=problem or "available", fix=fix)
