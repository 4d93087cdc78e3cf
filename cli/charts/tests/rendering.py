"""Render the charts with helm, and select objects and pods."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

RELEASE: Final = "p"
NAMESPACE: Final = "phaseflow"
Object = dict[str, Any]
TEMPLATES: Final = {"Deployment", "StatefulSet", "Job"}


class Helm:
    """Run helm on the assembled charts."""

    def __init__(self, charts: Path) -> None:
        self.charts = charts
        self.objects = functools.lru_cache(maxsize=64)(self._objects)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["helm", *arguments], capture_output=True, text=True, check=False)

    def template(self, chart: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("template", RELEASE, str(self.charts / chart), "--namespace", NAMESPACE, *arguments)

    def template_error(self, chart: str, *arguments: str) -> str:
        """Return the error of an installation that must fail."""
        completed = self.template(chart, *arguments)
        assert completed.returncode != 0, "the installation should have failed"
        return completed.stderr

    def notes(self, chart: str, *arguments: str) -> str:
        """Return the notes that helm prints after an installation."""
        path = str(self.charts / chart)
        completed = self.run("install", RELEASE, path, "--namespace", NAMESPACE, "--dry-run=client", *arguments)
        assert completed.returncode == 0, completed.stderr
        return completed.stdout.partition("\nNOTES:\n")[2]

    def _objects(self, chart: str, *arguments: str) -> tuple[Object, ...]:
        """Return the objects of an installation."""
        completed = self.template(chart, *arguments)
        assert completed.returncode == 0, completed.stderr
        return tuple(manifest for manifest in yaml.load_all(completed.stdout, Loader=yaml.CSafeLoader) if manifest)


def name(manifest: Object) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def pods(objects: tuple[Object, ...]) -> Iterator[tuple[str, Object]]:
    """Yield every pod with the name of its owner, including the pod templates in Airflow's ConfigMap."""
    for manifest in objects:
        match manifest["kind"]:
            case "Pod":
                yield name(manifest), manifest
            case "CronJob":
                yield name(manifest), manifest["spec"]["jobTemplate"]["spec"]["template"]
            case kind if kind in TEMPLATES:
                yield name(manifest), manifest["spec"]["template"]
            case "ConfigMap":
                for file in ("pod.yaml", "maintenance.yaml", "worker.yaml"):
                    if file in manifest["data"]:
                        yield f"{name(manifest)} {file}", yaml.load(manifest["data"][file], Loader=yaml.CSafeLoader)


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def of_kind(objects: tuple[Object, ...], *kinds: str) -> list[Object]:
    return [manifest for manifest in objects if manifest["kind"] in kinds]


def generated_secrets(objects: tuple[Object, ...]) -> list[Object]:
    """The Secrets with generated values: all but the configuration of Alertmanager, which follows from values."""
    return [secret for secret in of_kind(objects, "Secret") if set(secret["stringData"]) != {"alertmanager.yml"}]


def parts(objects: tuple[Object, ...]) -> set[str]:
    """Names of the charts that the objects belong to."""
    return {
        manifest["metadata"]["labels"]["app.kubernetes.io/name"]
        for manifest in objects
        if manifest["kind"] != "CustomResourceDefinition"
    }


def mounted_secrets(pod: Object) -> set[str]:
    """Names of the Secrets that a pod mounts or reads into its environment."""
    names = set()
    for volume in pod["spec"].get("volumes", []):
        sources = volume.get("projected", {}).get("sources", [])
        names |= {source["secret"]["name"] for source in sources if "secret" in source}
        names |= {volume["secret"]["secretName"]} if "secret" in volume else set()
    for container in containers(pod):
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            names |= {reference["name"]} if reference else set()
    return names
