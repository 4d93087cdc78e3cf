"""Tests of the memory slope and of lost ids."""

from __future__ import annotations

import dataclasses
import random

import pytest

from bench.load import lost
from bench.soak import check_versions, lines, slope
from phaseflow.errors import PlatformError
from phaseflow.settings import from_environment
from phaseflow.testing import Response, free_port, http_server


def samples(rate: float, *, noise: float, start: float = 100.0, minutes: int = 30) -> list[tuple[float, float]]:
    """One sample every 5 s that grows by `rate` MiB per hour, with uniform noise."""
    random_numbers = random.Random(7)
    return [(t, start + rate * t / 3600 + random_numbers.uniform(-noise, noise)) for t in range(0, minutes * 60, 5)]


def test_noise_is_flat_and_a_leak_is_not() -> None:
    assert not slope("serving", samples(0.0, noise=10.0)).grows
    leak = slope("serving", samples(200.0, noise=10.0))
    assert leak.grows
    assert abs(leak.mib_per_hour - 200) < leak.half_width + 40


def test_growth_in_the_first_half_only_is_a_cache() -> None:
    filled = [(t, 100.0 + min(t, 600) * 0.1) for t in range(0, 1800, 5)]
    assert not slope("serving", filled).grows


def test_a_few_samples_are_too_short_for_a_slope() -> None:
    short = slope("serving", samples(1000.0, noise=1.0, minutes=1))
    assert not short.grows
    assert "too short" in lines([short])[1]


def test_missing_and_duplicated_ids_are_lost() -> None:
    assert lost(["a", "b"], ["a", "b", "c"]) == []
    assert lost(["a", "b"], ["a"]) == ["b is missing"]
    assert lost(["a"], ["a", "a"]) == ["a is in the log 2 times"]
    assert lost(["a", "a"], ["a"]) == ["a is in 2 responses"]


def test_a_project_without_a_second_version_is_an_error_before_the_load() -> None:
    statuses = {"/api/2.0/mlflow/registered-models/alias?name=titanic&alias=previous": 200}
    with http_server(lambda request: Response(status=statuses.get(request.path, 404))) as url:
        settings = dataclasses.replace(from_environment(), mlflow_url=url)
        check_versions(settings, "titanic")
        with pytest.raises(PlatformError, match=r"digits has no two versions to swap\. Run `make demo` until it ends"):
            check_versions(settings, "digits")
    away = dataclasses.replace(settings, mlflow_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(
        PlatformError, match=r"MLflow at http://127\.0\.0\.1:\d+ can't be reached: .*See `phaseflow status`"
    ):
        check_versions(away, "titanic")
