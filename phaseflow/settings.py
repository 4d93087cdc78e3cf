"""Settings: where the platform's parts are. The only module that reads `PHASEFLOW_*`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phaseflow.errors import PlatformError

ROOT: Final = Path(__file__).resolve().parent.parent
"""The checkout, or the folder of an image that holds the code."""

USER: Final = "phaseflow"
"""Of the parts whose only login is one user's password: Prometheus and Alertmanager."""

PORTS: Final[Mapping[str, int]] = {
    "airflow": 8080,
    "mlflow": 5500,
    "pipelines": 8888,
    "serving": 3000,
    "monitor": 8085,
    "prometheus": 9090,
    "alertmanager": 9093,
    "grafana": 3001,
    "portal": 8090,
}
"""Ports of the embedded tier; `PHASEFLOW_PORT_OFFSET` moves them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Addresses and folders, each from an environment variable, else the embedded tier's default."""

    home: Path
    store: str
    data_mirror: Path | None
    offline: bool
    """No source is downloaded."""
    port_offset: int
    airflow_url: str
    mlflow_url: str
    pipelines_url: str
    serving_url: str
    monitor_url: str
    prometheus_url: str
    alertmanager_url: str
    grafana_url: str
    portal_url: str
    venvs: Path
    """Folder of the components' environments."""
    dashboards: Path
    """Folder of the generated Grafana dashboards, which the portal draws too."""
    drift_window_seconds: int | None
    """Overrides every project's window (the demo's are minutes)."""
    drift_minimum_rows: int | None
    drift_cooldown_seconds: int | None
    monitor_seconds: int | None
    """Overrides how often every project's window is judged."""
    bin: Path | None = None
    """Folder of Prometheus, promtool and Alertmanager, looked into before the PATH."""
    grafana_home: Path | None = None
    """Folder of an unpacked Grafana."""
    host: str = "127.0.0.1"
    """Interface that this process listens on."""
    public_url: str = ""
    """Address of the front door, under which a person finds every page; none where each part has its own."""
    kfp_page: bool = False
    """Whether the pipeline engine is a KFP server with its web page."""
    only: frozenset[str] = frozenset()
    """Projects that this process is for; all of them where none is named."""
    images: str = ""
    """On Kubernetes the images of the groups: 'registry/phaseflow/{group}:tag'; a task there runs in a pod."""
    serving_poll_seconds: int = 1
    """How often the service asks MLflow for new champions."""
    serving_ship_seconds: int = 2
    """How often the service's spooled rows go to the store."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names that requests may carry besides those of the platform's own addresses; `.example.com` stands for all below it."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may call the services, such as `https://app.example.com`."""
    feedback_tokens: bool = False
    """Whether feedback needs one of the named tokens of the secret `feedback_tokens`."""
    retrainings_per_day: int = 20
    """Most retrainings that alerts start on a day (UTC), over all projects."""

    def python(self, group: str) -> Path:
        """The interpreter of the environment `group` ('tabular', 'registry', ...)."""
        return self.venvs / group / "bin" / "python"

    def serving(self, project: str) -> str:
        """Address of the service of a project: `serving_url`, in which `{project}` stands for its name with hyphens."""
        return self.serving_url.replace("{project}", project.replace("_", "-"))

    def page(self, name: str) -> str:
        """Where a person's browser finds the part `name`; its own address where there is no front door."""
        if not self.public_url:
            address: str = getattr(self, f"{name}_url")
            return address
        return self.public_url if name == "portal" else f"{self.public_url}/{name}"

    def port(self, name: str) -> int:
        """The embedded tier's port of `name`."""
        return PORTS[name] + self.port_offset

    @property
    def secrets(self) -> Path:
        """Folder of generated passwords and tokens, mode 0700; one file each, mode 0600."""
        return self.home / "secrets"

    def login(self, name: str) -> tuple[str, str] | None:
        """User and password of the part `name` ("prometheus", "alertmanager"); None where it asks for none."""
        try:
            return USER, self.secret(f"{name}_password")
        except PlatformError:
            return None

    def bearer(self, name: str) -> dict[str, str]:
        """The header that sends the secret `name` as a token; none where there is no such secret."""
        try:
            return {"Authorization": f"Bearer {self.secret(name)}"}
        except PlatformError:
            return {}

    def secret(self, name: str) -> str:
        """The secret `name`: `PHASEFLOW_SECRET_<NAME>_FILE` where that is set, else `<home>/secrets/<name>`.

        Raises PlatformError when the file is missing.
        """
        path = Path(os.environ.get(f"PHASEFLOW_SECRET_{name.upper()}_FILE", str(self.secrets / name)))
        try:
            return path.read_text().strip()
        except FileNotFoundError as error:
            raise PlatformError(f"The secret {name!r} is not at {path}", fix="Make it with `phaseflow up`") from error


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings of this process.

    Raises PlatformError when a number is not one.
    """
    env = os.environ if environment is None else environment

    def number(name: str) -> int | None:
        value = env.get(name, "")
        if not value:
            return None
        try:
            return int(value)
        except ValueError as error:
            raise PlatformError(
                f"{name} is {value!r}; allowed: a whole number", fix=f"Correct or unset {name}"
            ) from error

    home = Path(env.get("PHASEFLOW_HOME") or ROOT / ".phaseflow").resolve()
    offset = number("PHASEFLOW_PORT_OFFSET") or 0

    def words(name: str) -> tuple[str, ...]:
        return tuple(word.strip().lower() for word in env.get(name, "").split(",") if word.strip())

    def folder(name: str) -> Path | None:
        value = env.get(name)
        return Path(value) if value else None

    def url(name: str) -> str:
        default = f"http://127.0.0.1:{PORTS[name] + offset}"
        return (env.get(f"PHASEFLOW_{name.upper()}_URL") or default).rstrip("/")

    return Settings(
        home=home,
        store=env.get("PHASEFLOW_STORE") or str(home / "store"),
        data_mirror=folder("PHASEFLOW_DATA_MIRROR"),
        offline=env.get("PHASEFLOW_OFFLINE", "") not in {"", "0"},
        port_offset=offset,
        airflow_url=url("airflow"),
        mlflow_url=url("mlflow"),
        pipelines_url=url("pipelines"),
        serving_url=url("serving"),
        monitor_url=url("monitor"),
        prometheus_url=url("prometheus"),
        alertmanager_url=url("alertmanager"),
        grafana_url=url("grafana"),
        portal_url=url("portal"),
        venvs=Path(env.get("PHASEFLOW_VENVS") or ROOT / ".venvs"),
        dashboards=Path(env.get("PHASEFLOW_DASHBOARDS") or ROOT / "monitoring" / "generated" / "dashboards"),
        drift_window_seconds=number("PHASEFLOW_DRIFT_WINDOW_SECONDS"),
        drift_minimum_rows=number("PHASEFLOW_DRIFT_MINIMUM_ROWS"),
        drift_cooldown_seconds=number("PHASEFLOW_DRIFT_COOLDOWN_SECONDS"),
        monitor_seconds=number("PHASEFLOW_MONITOR_SECONDS"),
        bin=folder("PHASEFLOW_BIN"),
        grafana_home=folder("PHASEFLOW_GRAFANA_HOME"),
        host=env.get("PHASEFLOW_HOST") or "127.0.0.1",
        public_url=(env.get("PHASEFLOW_PUBLIC_URL") or "").rstrip("/"),
        kfp_page=env.get("PHASEFLOW_KFP_PAGE", "") not in {"", "0"},
        only=frozenset(filter(None, env.get("PHASEFLOW_ONLY", "").split(","))),
        images=env.get("PHASEFLOW_IMAGES") or "",
        serving_poll_seconds=number("PHASEFLOW_SERVING_POLL_SECONDS") or 1,
        serving_ship_seconds=number("PHASEFLOW_SERVING_SHIP_SECONDS") or 2,
        allowed_hosts=words("PHASEFLOW_ALLOWED_HOSTS"),
        allowed_origins=tuple(origin.rstrip("/") for origin in words("PHASEFLOW_ALLOWED_ORIGINS")),
        feedback_tokens=env.get("PHASEFLOW_FEEDBACK_TOKENS", "") not in {"", "0"},
        retrainings_per_day=number("PHASEFLOW_RETRAININGS_PER_DAY") or 20,
    )
