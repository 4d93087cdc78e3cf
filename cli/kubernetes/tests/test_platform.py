"""What `up` hands to helm, depending on the nodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from cli.kubernetes import install, kube
from cli.kubernetes.cluster import KubernetesPlatform
from cli.kubernetes.kube import Release
from cli.platforms import ChartValues
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT


@pytest.mark.parametrize(
    ("architectures", "added"), [(["amd64"], False), (["arm64"], True), (["amd64", "arm64"], True), (None, False)]
)
def test_up_adds_the_values_for_arm64_if_a_node_has_it(
    monkeypatch: pytest.MonkeyPatch, architectures: list[str] | None, added: bool
) -> None:
    def items(*_: object) -> list[dict[str, object]]:
        if architectures is None:
            raise PlatformError('nodes is forbidden: User "x" cannot list resource "nodes"', fix="Ask for it")
        return [{"status": {"nodeInfo": {"architecture": name}}} for name in architectures]

    calls: list[Sequence[Path]] = []
    monkeypatch.setattr(kube, "items", items)
    monkeypatch.setattr(install, "up", lambda _release, files, _sets, _watch: calls.append(files))
    own = Path("own.yaml")
    remarks = KubernetesPlatform(Release()).up(ChartValues(profile="kind", files=(own,)), lambda *_: None)
    files = [path.name for path in calls[0]]
    assert files == ["values-kind.yaml", *["values-arm64.yaml"] * added, "own.yaml"]
    assert all((ROOT / "helm" / "platform" / name).exists() for name in files[:-1])
    assert any("arm64" in remark for remark in remarks) is added
