"""The platform on Kubernetes: installed by the previous commit, upgraded, and one turn of the loop."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.kubernetes import install, kube
from cli.kubernetes.kube import Release
from tests.cluster.conftest import Cluster, apply_user_secret, current_context, values


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of the one login last: to give the release its password back takes three minutes."""
    items.sort(key=lambda item: item.path.name == "test_one_login.py")


@pytest.fixture(scope="session")
def cluster(before: Path) -> Iterator[Cluster]:
    """The platform as the previous commit's charts install it, with a Secret of the user; `upgraded` upgrades it."""
    cluster = Cluster(release=Release(name="phaseflow", namespace="phaseflow-test", context=current_context()))
    cluster.phaseflow("down", "--data")
    kube.namespace(cluster.release)
    apply_user_secret(cluster.release)
    start = time.monotonic()
    chart = before / "charts" / "platform"
    kube.helm(cluster.release, "upgrade", "--install", "phaseflow", str(chart), *values(before))
    install.wait(cluster.release, lambda *_: None, start)
    print(f"installed: every part is ready after {time.monotonic() - start:.0f} s")
    yield cluster
    if not os.environ.get("KEEP"):
        cluster.phaseflow("down", "--data")


@pytest.fixture(scope="session")
def upgraded(cluster: Cluster) -> dict[str, str]:
    """The secrets before the upgrade; all tests run after it."""
    stored = cluster.secrets()
    start = time.monotonic()
    cluster.up()
    print(f"upgraded: every part is ready after {time.monotonic() - start:.0f} s")
    return stored


@pytest.fixture(scope="session")
def story(cluster: Cluster, upgraded: dict[str, str]) -> dict[str, Any]:
    """The result of one turn of the loop."""
    result: dict[str, Any] = cluster.json("demo", timeout=1500)
    return result
