"""What files of different folders must agree on."""

from __future__ import annotations

import yaml

from phaseflow.cluster import access, doctor
from phaseflow.settings import ROOT


def test_kinds_port_is_the_front_doors() -> None:
    kind = yaml.safe_load((ROOT / "k8s" / "kind.yaml").read_text())
    values = yaml.safe_load((ROOT / "helm" / "platform" / "values.yaml").read_text())
    (port,) = kind["nodes"][0]["extraPortMappings"]
    assert port["containerPort"] == port["hostPort"] == values["door"]["nodePort"]
    assert port["listenAddress"] == "127.0.0.1"
    assert access.LOCAL == values["global"]["publicUrl"] == f"http://localhost:{port['hostPort']}"


def test_every_profile_has_its_values_and_what_it_needs() -> None:
    for profile in doctor.NEEDED:
        assert (ROOT / "helm" / "platform" / f"values-{profile}.yaml").exists()
