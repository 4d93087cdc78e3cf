"""Which version answers: follows MLflow's alias `champion`, verifies, warms up, swaps by one assignment."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx

from phaseflow import events, registry
from phaseflow.errors import PhaseflowError
from phaseflow.log import logger
from phaseflow.settings import Settings
from phaseflow.store import Store, write_atomic
from services.serving import model as models
from services.serving.model import CorruptError, Model

KEPT: Final = 3
"""Versions in the cache."""
RETRY_SECONDS: Final = 10.0
"""After a version that could not be loaded."""
FILES: Final = {"model.onnx": "model.onnx", "extra_files/model.json": "model.json"}
"""In MLflow, and in the cache."""


class Manager:
    """The models of all projects, and how they came to be."""

    def __init__(self, settings: Settings, store: Store, beat: Callable[[], None] = lambda: None) -> None:
        self.models: dict[str, Model] = {}
        self.registry_up = False
        self.swaps: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        """By project and reason: corrupt, incomplete, cache."""
        self._settings, self._store, self._beat = settings, store, beat
        self._client: httpx.AsyncClient | None = None
        self._cache = settings.home / "serving" / "models"
        self._asked = False
        self._cached = False
        self._refused: dict[tuple[str, str], float] = {}

    def start(self) -> None:
        """Load every project's last champion from the cache: MLflow may be away."""
        for name in registry.names():
            current = self._cache / name / "current.json"
            if not current.exists():
                continue
            try:
                about = json.loads(current.read_text())
                version = about["version"]
                folder = self._cache / name / version
                self.models[name] = models.load(name, version, folder, about["sha256"], about["manifest_sha256"])
                self._cached = True
            except Exception as error:  # a damaged cache must not keep the service from starting
                shutil.rmtree(self._cache / name, ignore_errors=True)
                self._failed(name, "cache", f"{name} can't be loaded from the cache: {error}")

    async def follow(self) -> None:
        """Ask MLflow once for every project; the caller repeats it."""
        if self._client is None:  # it opens files, which may fail
            timeout = httpx.Timeout(10, connect=2)
            self._client = httpx.AsyncClient(base_url=self._settings.mlflow_url, timeout=timeout, trust_env=False)
        await self.poll(self._client)

    async def close(self) -> None:
        """End the connections to MLflow."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def poll(self, client: httpx.AsyncClient) -> None:
        """Look once at every project's alias."""
        up = True
        for name in registry.names():
            try:
                await self._look(client, name)
            except (httpx.TransportError, httpx.HTTPStatusError) as error:
                up = False
                if self.registry_up or not self._asked:
                    logger.warning("MLflow is away, what is loaded goes on: %s", error)
                break
            except Exception as error:  # one project's fault must not stop the others
                self._failed(name, "incomplete", f"{name}: {type(error).__name__}: {error}")
            self._beat()
        self.registry_up = up
        self._asked = True

    async def _look(self, client: httpx.AsyncClient, name: str) -> None:
        answer = await client.get("/api/2.0/mlflow/registered-models/alias", params={"name": name, "alias": "champion"})
        if answer.status_code in {400, 404}:  # no such model, or no champion yet
            return
        answer.raise_for_status()
        found = answer.json()["model_version"]
        version = str(int(found["version"]))
        present = self.models.get(name)
        if present is not None and present.version == version:
            return
        if time.monotonic() < self._refused.get((name, version), 0):
            return
        tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
        about = {
            "version": version,
            "sha256": tags.get("phaseflow.sha256", ""),
            "manifest_sha256": tags.get("phaseflow.manifest_sha256", ""),
        }
        folder = self._cache / name / version
        try:
            if not folder.exists():
                await self._download(client, name, version, folder)
            loaded = await asyncio.to_thread(
                models.load, name, version, folder, about["sha256"], about["manifest_sha256"]
            )
        except httpx.TransportError:
            raise
        except Exception as error:
            shutil.rmtree(folder, ignore_errors=True)
            self._refused[name, version] = time.monotonic() + RETRY_SECONDS
            stays = f"version {present.version} stays" if present else "nothing is served"
            reason = "corrupt" if isinstance(error, CorruptError) else "incomplete"
            self._failed(name, reason, f"{name} {version} is not loaded, {stays}: {type(error).__name__}: {error}")
            return
        self.models[name] = loaded
        logger.info("%s: serving version %s (%s)", name, version, loaded.manifest.candidate)
        if present is not None:
            self.swaps[name] += 1
        await asyncio.to_thread(self._remember, name, present, loaded, about)

    async def _download(self, client: httpx.AsyncClient, name: str, version: str, folder: Path) -> None:
        """The version's files, by MLflow's artifact proxy; the folder is there whole or not at all."""
        answer = await client.get(
            "/api/2.0/mlflow/model-versions/get-download-uri", params={"name": name, "version": version}
        )
        answer.raise_for_status()
        uri = str(answer.json()["artifact_uri"])
        if not uri.startswith("mlflow-artifacts:"):
            raise ValueError(f"its artifacts are at {uri}. Start MLflow with --serve-artifacts.")
        root = httpx.URL(uri).path.lstrip("/")
        partial = folder.with_name(f".{version}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for path, target in FILES.items():
            async with client.stream("GET", f"/api/2.0/mlflow-artifacts/artifacts/{root}/{path}") as part:
                part.raise_for_status()
                with (partial / target).open("wb") as file:
                    async for chunk in part.aiter_bytes():
                        file.write(chunk)
                        self._beat()
        partial.replace(folder)

    def _remember(self, name: str, before: Model | None, loaded: Model, about: dict[str, str]) -> None:
        """Make the version the one that is loaded when MLflow is away at the start; tell of the swap; tidy the cache."""
        try:
            write_atomic(self._cache / name / "current.json", json.dumps(about).encode())
            if before is not None:
                data = {"from": before.version, "to": loaded.version, "candidate": loaded.manifest.candidate}
                events.record(self._store, name, "swap", data, source="serving")
        except PhaseflowError as error:
            logger.warning("the swap of %s is served, but not written down: %s", name, error)
        kept = sorted((p for p in (self._cache / name).iterdir() if p.name.isdigit()), key=lambda p: p.stat().st_mtime)
        for old in kept[:-KEPT]:
            if old.name != loaded.version:
                shutil.rmtree(old, ignore_errors=True)

    def _failed(self, name: str, reason: str, text: str) -> None:
        self.failures[name, reason] += 1
        logger.warning("%s", text)

    @property
    def ready(self) -> bool:
        """Whether MLflow has said who the champions are, or a cache stands in for it."""
        # While MLflow is asked for the first time, the first of several models is not all of them.
        return self._cached or (self._asked and (self.registry_up or bool(self.models)))

    def describe(self, name: str) -> dict[str, Any]:
        """The model of a project, for people and for the DAG."""
        found = self.models[name]
        return {
            "project": name,
            "version": found.version,
            "candidate": found.manifest.candidate,
            "sha256": found.manifest.sha256,
            "snapshot": found.manifest.snapshot,
            "metrics": found.manifest.metrics,
            "created": found.manifest.created.isoformat(),
            "loaded_at": datetime.fromtimestamp(found.loaded_at, UTC).isoformat(),
            "stale": not self.registry_up,
        }
