"""A release on a Kubernetes cluster, as the commands see it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from cli import show
from cli.kubernetes import access, crds, doctor, install, kube
from cli.kubernetes.kube import Release
from cli.local.machine import Finding
from cli.platforms import ChartValues, Outcome, Page, Say, Watch
from phaseflow.clients import serving
from phaseflow.contract import Project
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT, Settings

HELM: Final = ROOT / "helm" / "platform"
ARM64: Final = HELM / "values-arm64.yaml"
"""Images that upstream builds for amd64 alone, from another source. `up` adds it if a node has arm64."""
DEMO_WINDOW_SECONDS: Final = 600
"""Largest drift window for a demo. With a larger one it would take hours."""


@dataclass(frozen=True, slots=True)
class KubernetesPlatform:
    """Implements `cli.platforms.Platform` with helm and kubectl."""

    release: Release

    @property
    def command(self) -> str:
        """The command line that selects the release."""
        return self.release.command

    def settings(self) -> Settings:
        """Settings that reach the release through its reverse proxy."""
        return access.settings(self.release)

    def up(self, values: ChartValues, watch: Watch) -> list[str]:
        """Install or upgrade the release. If a part can't become ready, the error has the reason."""
        files = [HELM / f"values-{values.profile}.yaml", *[HELM / "values-rehearsal.yaml"] * values.rehearsal]
        remarks = []
        if "arm64" in doctor.architectures(self.release):
            files.append(ARM64)
            remarks.append(f"with {ARM64.name}, because nodes have arm64")
        start = time.monotonic()
        install.up(self.release, [*files, *values.files], values.sets, watch)
        return [*remarks, f"ready after {show.duration(time.monotonic() - start)}"]

    def down(self, *, data: bool) -> Outcome:
        """Uninstall the release. Volumes and passwords are kept unless `data` is set."""
        install.down(self.release, data=data)
        text = "uninstalled, data included" if data else "uninstalled; volumes and passwords are kept"
        return Outcome(data={"uninstalled": self.release.name, "data": data}, text=text)

    def status(self) -> dict[str, Any]:
        """Whether each workload is ready, and why not. Raises PlatformError if there is no release."""
        states = install.states(self.release)
        if not states:
            raise kube.missing(self.release)
        return {"ready": states, "reasons": [asdict(reason) for reason in install.explain(self.release)]}

    def show_status(self, status: Mapping[str, Any]) -> None:
        """Print a table of the workloads, and to stderr why some are not ready."""
        show.table("", ("", "part"), [(show.mark(ok), name) for name, ok in sorted(status["ready"].items())])
        for reason in status["reasons"]:
            show.errors.print(
                f"{reason['what']}: {reason['problem']}\nfix: {reason['fix']}", markup=False, soft_wrap=True
            )

    def healthy(self, status: Mapping[str, Any]) -> bool:
        """Whether every workload is ready."""
        return all(status["ready"].values())

    def pages(self, *, passwords: bool) -> list[Page]:
        """Every page below the address of the reverse proxy."""
        return access.pages(self.release, passwords=passwords)

    def findings(self, profile: str) -> list[Finding]:
        """Check kubectl and helm, then the cluster."""
        findings = list(doctor.programs(("kubectl", "helm")))
        if all(finding.ok for finding in findings):
            findings += doctor.cluster(self.release, profile)
        if profile in doctor.KUBEFLOW and any(finding.subject == "kubernetes" for finding in findings):
            findings += crds.findings(self.release)
        return findings

    def log_names(self) -> list[str]:
        """Names of the workloads, without the release's."""
        return sorted(install.workloads(self.release))

    def print_logs(self, names: Collection[str], *, lines: int, follow: bool) -> int:
        """Run `kubectl logs` on the pods of the workloads: one after the other, or with `follow` all at once."""
        workloads = install.workloads(self.release)
        selections: list[tuple[str, ...]] = [(workloads[name], "--all-pods") for name in names]
        if follow and len(selections) > 1:
            selections = [("--selector", f"app.kubernetes.io/instance={self.release.name}", "--max-log-requests=100")]
        options = ["--all-containers", "--prefix", "--ignore-errors", f"--tail={lines}", *["--follow"] * follow]
        codes = [
            subprocess.run(kube.command_line(self.release, "logs", *selection, *options), check=False).returncode
            for selection in selections
        ]
        return max(codes, default=0)

    def registry(self, action: str, *arguments: str) -> dict[str, Any]:
        """Run the command in MLflow's pod, which has the registry's image and access to the store."""
        pod = f"deployment/{self.release.name}-mlflow"
        module = ("python", "-m", "services.registry")
        result: dict[str, Any] = json.loads(kube.kubectl(self.release, "exec", pod, "--", *module, action, *arguments))
        return result

    def prepare_demo(self, project: Project) -> Settings:  # noqa: ARG002  # `start_demo` checks it
        """Check that the release evaluates drift over minutes."""
        settings = self.settings()
        if (settings.drift_window_seconds or 3600) > DEMO_WINDOW_SECONDS:
            raise PlatformError(
                "The release evaluates drift over hours, and the demo would take as long",
                fix=f"Install it with `{self.command} up --rehearsal`",
            )
        return settings

    def start_demo(self, project: Project, say: Say) -> str:
        """Wait until every part is ready; raises PlatformError if the project already has a champion."""
        say("waiting until every part is ready")
        install.wait(self.release, lambda *_: None, time.monotonic())
        if serving.model(self.settings(), project.name):
            raise PlatformError(
                f"This release already serves a champion of {project.name}, and the demo starts without one",
                fix=f"`{self.command} down --data`, then `{self.command} up --rehearsal`; "
                f"or continue with `{self.command} traffic {project.name} --drift --feedback`",
            )
        return f"{len(install.states(self.release))} parts in the namespace {self.release.namespace}"

    def log_location(self, part: str, project: str) -> str:
        """The command that prints the log of a part's workload."""
        if part == "supervisord":
            return f"`{self.command} status`"
        return f"`kubectl -n {self.release.namespace} logs {install.workload(self.release, part, project)}`"

    def log_tail(self, part: str, project: str) -> str:
        """End of the log of a part's workload."""
        return install.tail(self.release, part, project)

    def memory_mb(self) -> float:
        """Memory of the release's pods together; 0 without metrics-server."""
        return install.memory_mb(self.release)
