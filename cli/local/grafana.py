"""Grafana, if it is installed: with the generated dashboards, on the loopback interface, without telemetry."""

from __future__ import annotations

from pathlib import Path

from cli.local.program import Health, Program
from cli.local.prometheus import RULES, folder
from phaseflow.settings import Settings


def programs(settings: Settings, home: Path) -> tuple[Program, ...]:
    """Grafana's process; `home` is the folder with `bin/`, `conf/` and `public/`."""
    data = settings.home / "grafana"
    return (
        Program(
            name="grafana",
            what="dashboards",
            argv=(str(home / "bin" / "grafana"), "server", "--homepath", str(home)),
            environment={
                "GF_SERVER_HTTP_ADDR": "127.0.0.1",
                "GF_SERVER_HTTP_PORT": str(settings.port("grafana")),
                "GF_PATHS_DATA": str(data),
                "GF_PATHS_LOGS": str(data / "log"),
                "GF_PATHS_PLUGINS": str(data / "plugins"),
                "GF_PATHS_PROVISIONING": str(folder(settings) / "grafana"),
                "GF_SECURITY_ADMIN_PASSWORD__FILE": str(settings.secrets / "grafana_admin_password"),
                "GF_ANALYTICS_REPORTING_ENABLED": "false",
                "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
                "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
                "GF_ANALYTICS_FEEDBACK_LINKS_ENABLED": "false",
                "GF_PLUGINS_PREINSTALL_DISABLED": "true",
                "GF_NEWS_NEWS_FEED_ENABLED": "false",
                "GF_LOG_LEVEL": "warn",
            },
            health=Health(url=f"{settings.grafana_url}/api/health"),
            after=(RULES,),
            ports=("grafana",),
        ),
    )
