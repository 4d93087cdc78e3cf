"""Which version answers: follows MLflow's alias `champion`, verifies, warms up, swaps by one assignment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from phaseflow import events, registry
from phaseflow.settings import Settings
from phaseflow.store import Store, write_atomic
from services.serving import model as models
from services.serving.model import CorruptError, Model

KEPT: Final = 3
"""Versions in the cache."""
RETRY_SECONDS: Final = 30.0
"""After a version that could not be loaded."""


@dataclass(slots=True)
class Manager:
    """The models of all projects, and how they came to be."""

    settings: Settings
    store: Store
    poll_seconds: float = float(os.environ.get("PHASEFLOW_SERVING_POLL_SECONDS", "1"))
    models: dict[str, Model] = field(default_factory=dict)
    registry_up: bool = False
    polled: bool = False
    """Whether MLflow, or its absence, has been seen since the start."""
    swaps: dict[str, int] = field(default_factory=dict)
    failures: dict[tuple[str, str], int] = field(default_factory=dict)
    """By project and reason: corrupt, incomplete."""
    rows_before: dict[tuple[str, str], int] = field(default_factory=dict)
    """Rows that versions no longer loaded answered."""
    _refused: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        """Folder of downloaded versions."""
        return self.settings.home / "serving" / "models"

    def start(self) -> None:
        """Load every project's last champion from the cache: MLflow may be away."""
        for name in registry.names():
            current = self.cache / name / "current.json"
            if not current.exists():
                continue
            try:
                about = json.loads(current.read_text())
                folder = self.cache / name / about["version"]
                self.models[name] = models.load(
                    name, about["version"], folder, about["sha256"], about["manifest_sha256"]
                )
            except Exception as error:  # a damaged cache must not keep the service from starting
                self._failed(name, "cache", f"{name} can't be loaded from the cache: {error}")

    async def follow(self) -> None:
        """Ask MLflow for ever."""
        limits = httpx.Limits(max_connections=4)
        async with httpx.AsyncClient(base_url=self.settings.mlflow_url, timeout=10, limits=limits) as client:
            while True:
                await self.poll(client)
                await asyncio.sleep(self.poll_seconds)  # the interval of polling

    async def poll(self, client: httpx.AsyncClient) -> None:
        """Look once at every project's alias."""
        up = True
        for name in registry.names():
            try:
                await self._look(client, name)
            except (httpx.TransportError, httpx.HTTPStatusError):
                up = False
            except Exception as error:  # one project's fault must not stop the others
                self._failed(name, "incomplete", f"{name}: {type(error).__name__}: {error}")
        self.registry_up, self.polled = up, True

    async def _look(self, client: httpx.AsyncClient, name: str) -> None:
        answer = await client.get("/api/2.0/mlflow/registered-models/alias", params={"name": name, "alias": "champion"})
        if answer.status_code in {400, 404}:  # no such model, or no champion yet
            return
        answer.raise_for_status()
        found = answer.json()["model_version"]
        version, tags = str(found["version"]), {tag["key"]: tag["value"] for tag in found.get("tags", [])}
        present = self.models.get(name)
        if present is not None and present.version == version:
            return
        if time.monotonic() < self._refused.get((name, version), 0):
            return
        sha256, manifest_sha256 = tags.get("phaseflow.sha256", ""), tags.get("phaseflow.manifest_sha256", "")
        folder = self.cache / name / version
        try:
            if not (folder / "model.json").exists():
                await self._download(client, name, version, folder)
            loaded = await asyncio.to_thread(models.load, name, version, folder, sha256, manifest_sha256)
        except CorruptError as error:
            shutil.rmtree(folder, ignore_errors=True)
            self._refused[name, version] = time.monotonic() + RETRY_SECONDS
            self._failed(name, "corrupt", f"{error}; version {present.version if present else 'none'} stays")
            return
        except (httpx.HTTPError, OSError):
            raise
        except Exception:
            self._refused[name, version] = time.monotonic() + RETRY_SECONDS
            raise
        self._swap(name, loaded, {"version": version, "sha256": sha256, "manifest_sha256": manifest_sha256})

    async def _download(self, client: httpx.AsyncClient, name: str, version: str, folder: Path) -> None:
        answer = await client.get(
            "/api/2.0/mlflow/model-versions/get-download-uri", params={"name": name, "version": version}
        )
        answer.raise_for_status()
        uri = answer.json()["artifact_uri"]
        root = uri.removeprefix("mlflow-artifacts:").lstrip("/")
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for path, target in (("model.onnx", "model.onnx"), ("extra_files/model.json", "model.json")):
            async with client.stream("GET", f"/api/2.0/mlflow-artifacts/artifacts/{root}/{path}") as part:
                part.raise_for_status()
                with (partial / target).open("wb") as file:
                    async for chunk in part.aiter_bytes():
                        file.write(chunk)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)

    def _swap(self, name: str, loaded: Model, about: dict[str, str]) -> None:
        before = self.models.get(name)
        self.models[name] = loaded
        write_atomic(self.cache / name / "current.json", json.dumps(about).encode())
        if before is not None:
            key = (name, before.version)
            self.rows_before[key] = self.rows_before.get(key, 0) + before.rows
            self.swaps[name] = self.swaps.get(name, 0) + 1
            with contextlib.suppress(Exception):
                data = {"from": before.version, "to": loaded.version, "candidate": loaded.manifest["candidate"]}
                events.record(self.store, name, "swap", data, source="serving")
        print(f"{name}: serving version {loaded.version} ({loaded.manifest['candidate']})", file=sys.stderr, flush=True)
        kept = sorted((p for p in (self.cache / name).iterdir() if p.name.isdigit()), key=lambda p: p.stat().st_mtime)
        for old in kept[:-KEPT]:
            if old.name != loaded.version:
                shutil.rmtree(old, ignore_errors=True)

    def _failed(self, name: str, reason: str, text: str) -> None:
        self.failures[name, reason] = self.failures.get((name, reason), 0) + 1
        print(f"warning: {text}", file=sys.stderr, flush=True)

    @property
    def ready(self) -> bool:
        """Whether MLflow was asked once, or a cache stands in for it."""
        return self.polled or bool(self.models)

    def describe(self, name: str) -> dict[str, Any]:
        """The model of a project, for people and for the DAG."""
        found = self.models[name]
        return {
            "project": name,
            "version": found.version,
            "candidate": found.manifest["candidate"],
            "sha256": found.manifest["sha256"],
            "snapshot": found.manifest["snapshot"],
            "metrics": found.manifest["metrics"],
            "created": found.manifest["created"],
            "loaded_at": found.loaded_at,
            "stale": not self.registry_up,
        }
