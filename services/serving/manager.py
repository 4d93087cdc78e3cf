"""Follows MLflow's alias `champion`: verifies and warms up a new version, and swaps it in by one assignment."""

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

from phaseflow import discovery, events
from phaseflow.clients.mlflow_errors import ABSENT
from phaseflow.errors import PhaseflowError
from phaseflow.log import logger
from phaseflow.settings import Settings
from phaseflow.store import Store, write_atomic
from services.serving import model as models
from services.serving.model import CorruptError, Model

MAX_CACHED_VERSIONS: Final = 3
"""Per project."""
RETRY_SECONDS: Final = 10.0
"""Wait before a version that could not be loaded is tried again."""
FILES: Final = {"model.onnx": "model.onnx", "extra_files/model.json": "model.json"}
"""Paths in MLflow's artifacts and file names in the cache."""


def _error_code(response: httpx.Response) -> str:
    """MLflow's error code of a response; empty if it is not MLflow's."""
    try:
        return str(response.json()["error_code"])
    except (ValueError, KeyError, TypeError):
        return ""


class Manager:
    """Loads the models of all projects and keeps them up to date."""

    def __init__(self, settings: Settings, store: Store, beat: Callable[[], None] = lambda: None) -> None:
        self.models: dict[str, Model] = {}
        self.registry_up = False
        self.swaps: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        """Count per project and reason: corrupt, incomplete, cache."""
        self._settings, self._store, self._beat = settings, store, beat
        self._client: httpx.AsyncClient | None = None
        self._cache = settings.home / "serving" / "models"
        self._polled = False
        self._cached = False
        self._retry_times: dict[tuple[str, str], float] = {}

    def start(self) -> None:
        """Load every project's last champion from the cache, as MLflow may be unreachable."""
        for name in discovery.names():
            current = self._cache / name / "current.json"
            if not current.exists():
                continue
            try:
                cache_entry = json.loads(current.read_text())
                version = cache_entry["version"]
                folder = self._cache / name / version
                self.models[name] = models.load(
                    name, version, folder, cache_entry["sha256"], cache_entry["manifest_sha256"]
                )
                self._cached = True
            except Exception as error:  # a damaged cache must not keep the service from starting
                shutil.rmtree(self._cache / name, ignore_errors=True)
                self._record_failure(name, "cache", f"{name} can't be loaded from the cache: {error}")

    async def follow(self) -> None:
        """Poll MLflow once; the caller repeats it."""
        if self._client is None:  # creating the client opens files, which may fail
            timeout = httpx.Timeout(10, connect=2)
            self._client = httpx.AsyncClient(base_url=self._settings.mlflow_url, timeout=timeout, trust_env=False)
        await self.poll(self._client)

    async def close(self) -> None:
        """Close the connections to MLflow."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def poll(self, client: httpx.AsyncClient) -> None:
        """Check every project's alias once."""
        up = True
        for name in discovery.names():
            try:
                await self._follow_alias(client, name)
            except (httpx.TransportError, httpx.HTTPStatusError) as error:
                up = False
                if self.registry_up or not self._polled:
                    logger.warning("MLflow is unreachable; the loaded models stay in use: %s", error)
                await self.close()  # a connection to another server, which had this address, would never end
                break
            except Exception as error:  # one project's failure must not affect the others
                self._record_failure(name, "incomplete", f"{name}: {type(error).__name__}: {error}")
            self._beat()
        self.registry_up = up
        self._polled = True

    async def _follow_alias(self, client: httpx.AsyncClient, name: str) -> None:
        response = await client.get(
            "/api/2.0/mlflow/registered-models/alias", params={"name": name, "alias": "champion"}
        )
        if response.status_code in {400, 404} and _error_code(response) in ABSENT:
            return
        response.raise_for_status()
        model_version = response.json()["model_version"]
        version = str(int(model_version["version"]))
        current = self.models.get(name)
        if current is not None and current.version == version:
            return
        if time.monotonic() < self._retry_times.get((name, version), 0):
            return
        tags = {tag["key"]: tag["value"] for tag in model_version.get("tags", [])}
        cache_entry = {
            "version": version,
            "sha256": tags.get("phaseflow.sha256", ""),
            "manifest_sha256": tags.get("phaseflow.manifest_sha256", ""),
        }
        folder = self._cache / name / version
        try:
            if not folder.exists():
                await self._download(client, name, version, folder)
            loaded = await asyncio.to_thread(
                models.load, name, version, folder, cache_entry["sha256"], cache_entry["manifest_sha256"]
            )
        except httpx.TransportError:
            raise
        except Exception as error:
            shutil.rmtree(folder, ignore_errors=True)
            self._retry_times[name, version] = time.monotonic() + RETRY_SECONDS
            consequence = f"version {current.version} stays" if current else "nothing is served"
            reason = "corrupt" if isinstance(error, CorruptError) else "incomplete"
            self._record_failure(
                name, reason, f"{name} {version} is not loaded, {consequence}: {type(error).__name__}: {error}"
            )
            return
        self.models[name] = loaded
        logger.info("%s: serving version %s (%s)", name, version, loaded.manifest.candidate)
        if current is not None:
            self.swaps[name] += 1
        await asyncio.to_thread(self._record_swap, name, current, loaded, cache_entry)

    async def _download(self, client: httpx.AsyncClient, name: str, version: str, folder: Path) -> None:
        """Download the version's files through MLflow's artifact proxy; the folder appears only when it is complete."""
        response = await client.get(
            "/api/2.0/mlflow/model-versions/get-download-uri", params={"name": name, "version": version}
        )
        response.raise_for_status()
        uri = str(response.json()["artifact_uri"])
        if not uri.startswith("mlflow-artifacts:"):
            raise ValueError(f"the artifacts are at {uri}. Start MLflow with --serve-artifacts.")
        root = httpx.URL(uri).path.lstrip("/")
        partial = folder.with_name(f".{version}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for path, target in FILES.items():
            async with client.stream("GET", f"/api/2.0/mlflow-artifacts/artifacts/{root}/{path}") as download:
                download.raise_for_status()
                with (partial / target).open("wb") as file:
                    async for chunk in download.aiter_bytes():
                        file.write(chunk)
                        self._beat()
        partial.replace(folder)

    def _record_swap(self, name: str, previous: Model | None, loaded: Model, cache_entry: dict[str, str]) -> None:
        """Make the version the one that `start` loads, record the swap as an event, and remove old cached versions."""
        try:
            write_atomic(self._cache / name / "current.json", json.dumps(cache_entry).encode())
            if previous is not None:
                data = {"from": previous.version, "to": loaded.version, "candidate": loaded.manifest.candidate}
                events.record(self._store, name, "swap", data, source="serving")
        except PhaseflowError as error:
            logger.warning("the swap of %s took effect, but could not be recorded: %s", name, error)
        folders = sorted(
            (p for p in (self._cache / name).iterdir() if p.name.isdigit()), key=lambda p: p.stat().st_mtime
        )
        for folder in folders[:-MAX_CACHED_VERSIONS]:
            if folder.name != loaded.version:
                shutil.rmtree(folder, ignore_errors=True)

    def _record_failure(self, name: str, reason: str, text: str) -> None:
        self.failures[name, reason] += 1
        logger.warning("%s", text)

    @property
    def ready(self) -> bool:
        """Whether the champions are known, from MLflow or from the cache."""
        # During the first poll some models may be loaded and others not yet.
        return self._cached or (self._polled and (self.registry_up or bool(self.models)))

    def describe(self, name: str) -> dict[str, Any]:
        """Metadata of a project's model, for people and for the DAG."""
        model = self.models[name]
        return {
            "project": name,
            "version": model.version,
            "candidate": model.manifest.candidate,
            "sha256": model.manifest.sha256,
            "snapshot": model.manifest.snapshot,
            "metrics": model.manifest.metrics,
            "created": model.manifest.created.isoformat(),
            "loaded_at": datetime.fromtimestamp(model.loaded_at, UTC).isoformat(),
            "stale": not self.registry_up,
        }
