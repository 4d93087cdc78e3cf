"""Files in different folders must agree on ports, URLs and profiles."""

from __future__ import annotations

import yaml

from cli.kubernetes import access, doctor
from phaseflow.settings import ROOT


def test_kind_maps_the_port_of_the_reverse_proxy() -> None:
    kind = yaml.safe_load((ROOT / "k8s" / "kind.yaml").read_text())
    values = yaml.safe_load((ROOT / "helm" / "platform" / "values.yaml").read_text())
    (port,) = kind["nodes"][0]["extraPortMappings"]
    assert port["containerPort"] == port["hostPort"] == values["proxy"]["nodePort"]
    assert port["listenAddress"] == "127.0.0.1"
    assert access.LOCAL == values["global"]["publicUrl"] == f"http://localhost:{port['hostPort']}"


def test_every_profile_has_values() -> None:
    for profile in doctor.REQUIREMENTS:
        assert (ROOT / "helm" / "platform" / f"values-{profile}.yaml").exists()
