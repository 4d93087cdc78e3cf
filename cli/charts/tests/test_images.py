"""Tests of the image lock, and of the names of images."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from cli.charts import charts, images
from cli.charts.tests.conftest import EVERYTHING
from cli.charts.tests.rendering import Helm, Object, containers, pods
from phaseflow import __version__
from phaseflow.errors import ContractError


def test_the_lock_lists_every_image_of_the_charts() -> None:
    gathered = images.gather(charts.read(name) for name in charts.names())
    names = [image.name for image in gathered]
    assert names == sorted(set(names))
    assert {"postgres", "prom/prometheus", "ghcr.io/kubeflow/kfp-driver", "quay.io/argoproj/argoexec"} <= set(names)
    locked = yaml.safe_load(images.lock(gathered))["images"]
    assert [image["name"] for image in locked] == names
    postgres = next(image for image in locked if image["name"] == "postgres")
    assert postgres["values"] == ["platform: backup.image", "storage: postgres.image"]


def test_the_lock_lists_no_unused_image(helm: Helm) -> None:
    """No pod of the charts has Argo's executor, driver or launcher: other programs start them."""
    objects = helm.objects("platform", "--set", EVERYTHING)
    used = {
        container["image"].split(":")[0]
        for _, pod in pods(objects)
        for container in containers(pod)
        if "image" in container
    }
    named = {image.name for image in images.gather(charts.read(name) for name in charts.names())}
    assert named - used == {"quay.io/argoproj/argoexec", "ghcr.io/kubeflow/kfp-driver", "ghcr.io/kubeflow/kfp-launcher"}


def test_two_tags_of_one_image_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "FOLDER", tmp_path)
    image = '{repository: a, tag: "%s", digest: ""}'
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "Chart.yaml").write_text("{name: x, version: 1.0.0}")
    (tmp_path / "x" / "values.yaml").write_text(f"# -- One.\none: {image % 1}\n# -- Two.\ntwo: {image % 2}\n")
    with pytest.raises(ContractError) as error:
        images.gather([charts.read("x")])
    assert (
        str(error.value)
        == "x: two has another tag or digest of a than x: one: 2. Use one tag and one digest in all of them."
    )


def test_every_image_has_the_prefix_of_the_mirror(helm: Helm) -> None:
    mirror = "registry.example.com/ml"
    objects = helm.objects(
        "platform",
        "--set",
        f"global.images.registry={mirror},global.images.mirror={mirror},pipelines.engine=kfp,kubeflow-pipelines.enabled=true",
    )
    named = [container["image"] for _, pod in pods(objects) for container in containers(pod) if "image" in container]
    assert len(named) > 20
    assert [image for image in named if not image.startswith(f"{mirror}/")] == []
    # The same is true for images that other programs start: steps, drivers, launchers, Argo's executor.
    text = json.dumps(objects)
    for image in images.gather(charts.read(chart) for chart in charts.names()):
        assert not re.search(rf"(?<!{re.escape(mirror)}/){re.escape(image.reference)}", text), image.reference


def image_names(objects: tuple[Object, ...]) -> set[str]:
    """Images of every pod, without tags and digests."""
    named = {container["image"] for _, pod in pods(objects) for container in containers(pod) if "image" in container}
    return {image.partition("@")[0].rpartition(":")[0] for image in named}


def test_own_images_and_third_party_images_come_from_different_registries(helm: Helm) -> None:
    values = (
        "pipelines.engine=kfp,kubeflow-pipelines.enabled=true,global.images.registry=own.example,"
        "global.images.mirror=all.example,global.images.mirrors.docker\\.io=cache.example/hub,"
        "global.images.mirrors.ghcr\\.io=cache.example/github"
    )
    names = image_names(helm.objects("platform", "--set", values))
    assert {
        "own.example/phaseflow/serving",
        "cache.example/hub/library/postgres",
        "cache.example/hub/prom/prometheus",
        "cache.example/github/kubeflow/kfp-api-server",
        "all.example/quay.io/argoproj/workflow-controller",
    } <= names
    prefixes = ("own.example/phaseflow/", "cache.example/hub/", "cache.example/github/kubeflow/", "all.example/")
    assert [image for image in names if not image.startswith(prefixes)] == []


def test_the_tag_of_own_images_is_the_version_of_the_charts(helm: Helm) -> None:
    text = json.dumps(helm.objects("platform", "--set", "pipelines.engine=kfp,kubeflow-pipelines.enabled=true"))
    assert set(re.findall(r"phaseflow/[a-z]+:([\w.-]+)", text)) == {__version__}
