"""Prometheus' and Alertmanager's own checkers, of Debian's release and of the charts', on the files of both tiers.

Debian 12's programs are those of one machine, and the stand-ins of the tests' cluster; the charts' images are years
newer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from cli.charts import charts
from cli.charts.tests.rendering import Helm, Object
from cli.local import binaries, passwords
from monitoring import generate
from monitoring.windows import CLUSTER_REHEARSAL, Windows
from phaseflow.settings import ROOT, from_environment

ENDS: Final = ("debian", "charts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkers:
    """The two programs of one release."""

    promtool: Path
    amtool: Path

    def check(self, *arguments: str | Path) -> None:
        """Run promtool (`check …`) or amtool (`check-config …`), which must succeed."""
        program = self.amtool if arguments[0] == "check-config" else self.promtool
        completed = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert completed.returncode == 0, f"{program} {arguments}: {completed.stdout}{completed.stderr}"


def _debian() -> Checkers:
    promtool = binaries.ensure(from_environment(), print).promtool
    amtool = shutil.which("amtool", path=f"{os.environ['PATH']}:{binaries.cache().parent / 'debian' / 'usr' / 'bin'}")
    assert amtool, "amtool is not installed. Install it: `apt install prometheus-alertmanager`."
    return Checkers(promtool=promtool, amtool=Path(amtool))


def _charts() -> Checkers:
    """Build the releases of the charts with Go."""
    completed = subprocess.run([ROOT / "bin" / "monitoring-checkers"], capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    folder = Path(completed.stdout.strip())
    return Checkers(promtool=folder / "promtool", amtool=folder / "amtool")


@pytest.fixture(scope="module", params=ENDS)
def checkers(request: pytest.FixtureRequest) -> Checkers:
    return _debian() if request.param == "debian" else _charts()


def test_the_files_of_one_machine_pass(checkers: Checkers, tmp_path: Path) -> None:
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path)})
    passwords.ensure(settings)
    for windows in (Windows(), CLUSTER_REHEARSAL):
        for name, text in (generate.portable(windows) | generate.machine(windows, settings, tmp_path)).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        rules = sorted((tmp_path / "rules").glob("*.yaml"))
        assert rules
        checkers.check("check", "rules", *rules)
        checkers.check("check", "config", tmp_path / "prometheus.yaml")
        checkers.check("check-config", tmp_path / "alertmanager.yaml")
        for part in generate.PROTECTED:
            checkers.check("check", "web-config", tmp_path / f"{part}-web.yaml")


@pytest.mark.parametrize("profile", ["small", "kind"])
def test_the_files_of_the_charts_pass(checkers: Checkers, helm: Helm, tmp_path: Path, profile: str) -> None:
    objects = helm.objects("platform", "--values", str(charts.FOLDER / "platform" / f"values-{profile}.yaml"))
    files = {name: text for manifest in objects for name, text in _texts(manifest).items()}
    rules = [name for name, text in files.items() if text.startswith("# Generated") and "groups:" in text]
    assert rules
    configurations = {"prometheus.yml", "alertmanager.yml", "prometheus_web.yml", "alertmanager_web.yml"}
    for name in (*configurations, *rules):
        (tmp_path / name).write_text(files[name])
    checkers.check("check", "rules", *(tmp_path / name for name in rules))
    # The paths of logins and rules exist only in the pod.
    checkers.check("check", "config", "--syntax-only", tmp_path / "prometheus.yml")
    checkers.check("check-config", tmp_path / "alertmanager.yml")
    for part in ("prometheus", "alertmanager"):
        checkers.check("check", "web-config", tmp_path / f"{part}_web.yml")


def test_a_wrong_file_fails(checkers: Checkers, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(
        "route: {receiver: nobody}\nscrape_configs: [{job: x}]\nbasic_auth_users: [x]\n"
    )
    for arguments in (("check", "config"), ("check", "web-config"), ("check", "rules"), ("check-config",)):
        with pytest.raises(AssertionError):
            checkers.check(*arguments, tmp_path / "wrong.yaml")


def _texts(manifest: Object) -> dict[str, str]:
    """The files in a ConfigMap or Secret; empty for other objects."""
    return (
        {**manifest.get("data", {}), **manifest.get("stringData", {})}
        if manifest["kind"] in {"ConfigMap", "Secret"}
        else {}
    )
