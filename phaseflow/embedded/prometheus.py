"""Prometheus and Alertmanager on one machine: loopback, behind a login, their data in the platform's home.

The login keeps out the pages of other sites and the other users of the machine: Alertmanager lets every origin post alerts.
"""

from __future__ import annotations

from pathlib import Path

from phaseflow.embedded.binaries import Binaries
from phaseflow.embedded.program import Health, Program, Step
from phaseflow.settings import Settings

RULES = "monitoring-files"


def folder(settings: Settings) -> Path:
    """Where rules, dashboards and configurations of this machine are generated."""
    return settings.home / "monitoring"


def steps(settings: Settings) -> tuple[Step, ...]:
    """Generate them."""
    argv = (str(settings.python("command")), "-m", "monitoring", "generate", "--out", str(folder(settings)))
    return (Step(name=RULES, argv=argv),)


def programs(settings: Settings, found: Binaries) -> tuple[Program, ...]:
    """The two processes; a single Alertmanager needs no cluster, so that its gossip port stays closed."""
    files, home = folder(settings), settings.home
    return (
        Program(
            name="prometheus",
            what="metrics, drift, alerts",
            argv=(
                str(found.prometheus),
                f"--config.file={files / 'prometheus.yaml'}",
                f"--web.config.file={files / 'prometheus-web.yaml'}",
                "--web.cors.origin=^$",  # its default is every origin
                f"--storage.tsdb.path={home / 'prometheus'}",
                "--storage.tsdb.retention.time=30d",
                f"--web.listen-address=127.0.0.1:{settings.port('prometheus')}",
                f"--web.external-url={settings.prometheus_url}",
                "--log.level=warn",
            ),
            health=Health(url=f"{settings.prometheus_url}/-/ready", login="prometheus"),
            after=(RULES,),
            ports=("prometheus",),
            reload_signal="HUP",
        ),
        Program(
            name="alertmanager",
            what="alerts to the retrain hook",
            argv=(
                str(found.alertmanager),
                f"--config.file={files / 'alertmanager.yaml'}",
                f"--web.config.file={files / 'alertmanager-web.yaml'}",
                f"--storage.path={home / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{settings.port('alertmanager')}",
                f"--web.external-url={settings.alertmanager_url}",
                "--cluster.listen-address=",
                "--log.level=warn",
            ),
            health=Health(url=f"{settings.alertmanager_url}/-/ready", login="alertmanager"),
            after=(RULES,),
            ports=("alertmanager",),
            reload_signal="HUP",
        ),
    )
