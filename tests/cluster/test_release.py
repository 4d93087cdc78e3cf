"""Charts as a release pushes them, with the real helm and a real registry."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from cli.charts import charts
from phaseflow import __version__
from phaseflow.settings import ROOT
from phaseflow.testing import free_port
from tests.cluster.test_images import serve


def test_pushed_charts_name_the_released_images(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    for registry in serve(tmp_path_factory.mktemp("registry"), "127.0.0.1", free_port()):
        target = f"oci://{registry.name}/charts"
        argv = [str(ROOT / "bin" / "release-charts"), "ghcr.io/owner/phaseflow", "1.2.3", target, "--plain-http"]
        completed = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert completed.returncode == 0, completed.stderr
        digests = dict(line.split("@") for line in completed.stdout.splitlines())
        assert digests.keys() == {f"{registry.name}/charts/{name}" for name in charts.names()}
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in digests.values())
        pulled = ["helm", "template", "p", f"{target}/platform", "--version", __version__, "--plain-http"]
        rendered = subprocess.run(pulled, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert rendered.returncode == 0, rendered.stderr
        own = set(re.findall(r"image: (\S*phaseflow\S*)", rendered.stdout))
        assert own
        assert all(image.startswith("ghcr.io/owner/phaseflow/") and image.endswith(":1.2.3") for image in own), own
