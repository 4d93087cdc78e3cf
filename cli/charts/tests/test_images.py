"""Tests of the image lock."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cli.charts import charts, images
from cli.charts.tests.rendering import Helm, containers, pods
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
    objects = helm.objects(
        "platform", "--set", "pipelines.engine=kfp,kubeflow-pipelines.enabled=true,backup.enabled=true"
    )
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
