"""The lock gathers every image once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from helm import charts, images
from helm.tests.rendering import Helm, containers, pods
from phaseflow.errors import ContractError


def test_the_lock_has_every_image_that_the_charts_name() -> None:
    found = images.gather(charts.read(name) for name in charts.names())
    names = [image.name for image in found]
    assert names == sorted(set(names))
    assert {"postgres", "prom/prometheus", "ghcr.io/kubeflow/kfp-driver", "quay.io/argoproj/argoexec"} <= set(names)
    locked = yaml.safe_load(images.lock(found))["images"]
    assert [it["name"] for it in locked] == names
    postgres = next(it for it in locked if it["name"] == "postgres")
    assert postgres["values"] == ["platform: backup.image", "storage: postgres.image"]


def test_the_lock_has_no_image_that_no_pod_has(helm: Helm) -> None:
    """Argo's executor, driver and launcher are started by others."""
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


def test_one_image_by_two_tags_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "FOLDER", tmp_path)
    image = '{repository: a, tag: "%s", digest: ""}'
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "Chart.yaml").write_text("{name: x, version: 1.0.0}")
    (tmp_path / "x" / "values.yaml").write_text(f"# -- One.\none: {image % 1}\n# -- Two.\ntwo: {image % 2}\n")
    with pytest.raises(ContractError) as error:
        images.gather([charts.read("x")])
    assert str(error.value) == "x: two names a:2 by another tag or digest than x: one. Give all of them the same."
