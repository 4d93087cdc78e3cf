"""The charts as helm renders them, and what is in them."""

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
    """Runs helm over the assembled charts."""

    def __init__(self, charts: Path) -> None:
        self.charts = charts
        self.objects = functools.lru_cache(maxsize=64)(self._objects)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["helm", *arguments], capture_output=True, text=True, check=False)

    def template(self, chart: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("template", RELEASE, str(self.charts / chart), "--namespace", NAMESPACE, *arguments)

    def refused(self, chart: str, *arguments: str) -> str:
        """What an installation says that must not happen."""
        done = self.template(chart, *arguments)
        assert done.returncode != 0, "it should have been refused"
        return done.stderr

    def notes(self, chart: str, *arguments: str) -> str:
        """What is shown after an installation."""
        path = str(self.charts / chart)
        done = self.run("install", RELEASE, path, "--namespace", NAMESPACE, "--dry-run=client", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("\nNOTES:\n")[2]

    def _objects(self, chart: str, *arguments: str) -> tuple[Object, ...]:
        """What an installation makes."""
        done = self.template(chart, *arguments)
        assert done.returncode == 0, done.stderr
        return tuple(found for found in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if found)


def name(it: Object) -> str:
    return f"{it['kind']} {it['metadata']['name']}"


def pods(objects: tuple[Object, ...]) -> Iterator[tuple[str, Object]]:
    """Every pod that the objects make, with the name of what makes it; also those that Airflow makes of its ConfigMap."""
    for it in objects:
        match it["kind"]:
            case "Pod":
                yield name(it), it
            case "CronJob":
                yield name(it), it["spec"]["jobTemplate"]["spec"]["template"]
            case kind if kind in TEMPLATES:
                yield name(it), it["spec"]["template"]
            case "ConfigMap":
                for file in ("pod.yaml", "maintenance.yaml", "worker.yaml"):
                    if file in it["data"]:
                        yield f"{name(it)} {file}", yaml.safe_load(it["data"][file])


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def of_kind(objects: tuple[Object, ...], *kinds: str) -> list[Object]:
    return [it for it in objects if it["kind"] in kinds]


def parts(objects: tuple[Object, ...]) -> set[str]:
    """Names of the charts whose objects these are."""
    return {
        it["metadata"]["labels"]["app.kubernetes.io/name"] for it in objects if it["kind"] != "CustomResourceDefinition"
    }
