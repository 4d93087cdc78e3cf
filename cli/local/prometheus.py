"""Prometheus and Alertmanager on one machine: on the loopback interface, with a login, and with data in the home.

The login blocks other websites and other users of the machine, because Alertmanager accepts alerts from every origin.
"""

from __future__ import annotations

from pathlib import Path

from cli.local.binaries import Binaries
from cli.local.program import Health, Program, Step
from phaseflow.settings import Settings

RULES = "monitoring-files"


def folder(settings: Settings) -> Path:
    """Folder of this machine's generated rules, dashboards and configurations."""
    return settings.home / "monitoring"


def steps(settings: Settings) -> tuple[Step, ...]:
    """The step that generates these files."""
    argv = (str(settings.python("command")), "-m", "monitoring", "generate", "--out", str(folder(settings)))
    return (Step(name=RULES, argv=argv),)


def programs(settings: Settings, executables: Binaries) -> tuple[Program, ...]:
    """The two processes. A single Alertmanager needs no cluster, so its gossip port stays closed."""
    files, home = folder(settings), settings.home
    return (
        Program(
            name="prometheus",
            what="metrics, drift, alerts",
            argv=(
                str(executables.prometheus),
                f"--config.file={files / 'prometheus.yaml'}",
                f"--web.config.file={files / 'prometheus-web.yaml'}",
                "--web.cors.origin=^$",  # the default allows every origin
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
                str(executables.alertmanager),
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
