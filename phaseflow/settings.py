"""Settings of the platform, such as addresses and folders. Only this module reads `PHASEFLOW_*` variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phaseflow.errors import PlatformError, suggestion
from phaseflow.log import FORMATS

ROOT: Final = Path(__file__).resolve().parent.parent
"""The checkout, or the folder with the code in an image."""

USER: Final = "phaseflow"
"""User name for Prometheus and Alertmanager, which have a single user."""

GRAFANA_MIRROR: Final = "https://dl.grafana.com/oss/release"
"""Where the makers of Grafana publish its archives."""

PORTS: Final[Mapping[str, int]] = {
    "airflow": 8080,
    "mlflow": 5500,
    "pipelines": 8888,
    "serving": 3000,
    "monitor": 8085,
    "evidently": 8086,
    "prometheus": 9090,
    "alertmanager": 9093,
    "grafana": 3001,
    "portal": 8090,
}
"""Ports of the embedded tier. `PHASEFLOW_PORT_OFFSET` is added to each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings from environment variables, with the defaults of the embedded tier."""

    home: Path
    """Folder of all local data."""
    store: str
    """Folder or S3 prefix (`s3://bucket/prefix`) of the store."""
    data_mirror: Path | None
    """Folder with local copies of the source files."""
    offline: bool
    """Whether downloads of sources are disabled."""
    port_offset: int
    """Added to every port of the embedded tier."""
    airflow_url: str
    mlflow_url: str
    pipelines_url: str
    serving_url: str
    monitor_url: str
    evidently_url: str
    prometheus_url: str
    alertmanager_url: str
    grafana_url: str
    portal_url: str
    venvs: Path
    """Folder of the virtual environments."""
    dashboards: Path
    """Folder of the generated Grafana dashboards, which the portal also renders."""
    drift_window_seconds: int | None
    """Overrides the drift window of every project. The demo uses minutes."""
    drift_minimum_rows: int | None
    """Overrides the minimum number of rows in the drift window of every project."""
    drift_cooldown_seconds: int | None
    """Overrides the minimum time between two automatic retrainings of every project."""
    monitor_seconds: int | None
    """Overrides the monitoring interval of every project."""
    bin: Path | None = None
    """Folder of Prometheus, promtool and Alertmanager, which is searched before PATH."""
    grafana_home: Path | None = None
    """Folder of an unpacked Grafana."""
    grafana_mirror: str = GRAFANA_MIRROR
    """Address from which `make grafana` downloads Grafana."""
    env_file: Path | None = None
    """File with variables of the tools, such as `AIRFLOW__...`, for the platform on this machine."""
    log_format: str = "text"
    """Format of the logs on stderr: `text` for people, or `json` for one JSON object per line."""
    host: str = "127.0.0.1"
    """Network interface that this process listens on."""
    public_url: str = ""
    """Public address of the reverse proxy. It is empty if each component is reachable at its own address."""
    evidently_page: str = ""
    """Address of Evidently's pages in the browser, if it is not `evidently_url`. They have an origin of their own."""
    kfp_page: bool = False
    """Whether the pipeline engine is a KFP server with a web UI."""
    projects: tuple[Path, ...] = (ROOT / "projects",)
    """Folders with one project per subfolder: the checkout's own, and those that the variable adds, separated as in PATH."""
    only: frozenset[str] = frozenset()
    """Projects of this process. Empty means all."""
    images: str = ""
    """Image template on Kubernetes, 'registry/phaseflow/{group}:tag'. Each task then runs in a pod."""
    serving_poll_seconds: int = 1
    """Interval at which the service polls MLflow for new champions."""
    serving_ship_seconds: int = 2
    """Interval at which the service ships spooled rows to the store."""
    allowed_hosts: tuple[str, ...] = ()
    """Allowed host names of requests in addition to those of the platform. `.example.com` matches all subdomains."""
    allowed_origins: tuple[str, ...] = ()
    """Allowed origins of web pages that call the services, such as `https://app.example.com`."""
    feedback_tokens: bool = False
    """Whether feedback requires one of the tokens in the secret `feedback_tokens`."""
    retrainings_per_day: int = 20
    """Maximum number of retrainings per day (UTC) that alerts start, over all projects."""
    alert_receivers: Path | None = None
    """File with the receivers of Alertmanager for people, in YAML."""

    def python(self, group: str) -> Path:
        """Path of the Python interpreter of the environment `group` ('tabular', 'registry', ...)."""
        return self.venvs / group / "bin" / "python"

    def serving(self, project: str) -> str:
        """Address of the service of a project: `serving_url` with `{project}` replaced by its name with hyphens."""
        return self.serving_url.replace("{project}", project.replace("_", "-"))

    def page(self, name: str) -> str:
        """Address of the web UI of the component `name`: on the reverse proxy, else its own address.

        Evidently is not on the reverse proxy. Its address is empty if nobody has said how browsers reach it.
        """
        if name == "evidently" and (self.evidently_page or self.public_url):
            return self.evidently_page
        if not self.public_url:
            address: str = getattr(self, f"{name}_url")
            return address
        return self.public_url if name == "portal" else f"{self.public_url}/{name}"

    def port(self, name: str) -> int:
        """Port of the component `name` in the embedded tier."""
        return PORTS[name] + self.port_offset

    @property
    def secrets(self) -> Path:
        """Folder (mode 0700) of the generated passwords and tokens, with one file (mode 0600) per secret."""
        return self.home / "secrets"

    def login(self, name: str) -> tuple[str, str] | None:
        """User and password of the component `name` ("prometheus", "alertmanager"). None if it requires no login."""
        try:
            return USER, self.secret(f"{name}_password")
        except PlatformError:
            return None

    def bearer(self, name: str) -> dict[str, str]:
        """The header with the secret `name` as a bearer token. Empty if the secret does not exist."""
        try:
            return {"Authorization": f"Bearer {self.secret(name)}"}
        except PlatformError:
            return {}

    def secret(self, name: str) -> str:
        """Read the secret `name` from the file `PHASEFLOW_SECRET_<NAME>_FILE`, else `<home>/secrets/<name>`.

        Raises PlatformError if the file is missing.
        """
        path = Path(os.environ.get(f"PHASEFLOW_SECRET_{name.upper()}_FILE", str(self.secrets / name)))
        try:
            return path.read_text().strip()
        except FileNotFoundError as error:
            raise PlatformError(f"The secret {name!r} is not at {path}", fix="Make it with `phaseflow up`") from error


def _number(env: Mapping[str, str], name: str) -> int | None:
    value = env.get(name, "")
    if not value:
        return None
    try:
        return int(value)
    except ValueError as error:
        raise PlatformError(f"{name} is {value!r}; allowed: a whole number", fix=f"Correct or unset {name}") from error


def _words(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(word.strip().lower() for word in env.get(name, "").split(",") if word.strip())


def _path(env: Mapping[str, str], name: str) -> Path | None:
    value = env.get(name)
    return Path(value) if value else None


def _paths(env: Mapping[str, str], name: str) -> tuple[Path, ...]:
    return tuple(Path(path) for path in env.get(name, "").split(os.pathsep) if path)


def _log_format(value: str) -> str:
    if value not in FORMATS:
        raise PlatformError(
            f"PHASEFLOW_LOG_FORMAT is {value!r}; allowed: {', '.join(FORMATS)}",
            fix=suggestion(value, FORMATS) or "Correct or unset PHASEFLOW_LOG_FORMAT",
        )
    return value


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from environment variables.

    Raises PlatformError if the value of a numeric variable is not a whole number, or the log format is unknown.
    """
    env = os.environ if environment is None else environment

    home = Path(env.get("PHASEFLOW_HOME") or ROOT / ".phaseflow").resolve()
    offset = _number(env, "PHASEFLOW_PORT_OFFSET") or 0

    def number(name: str) -> int | None:
        return _number(env, name)

    def url(name: str) -> str:
        default = f"http://127.0.0.1:{PORTS[name] + offset}"
        return (env.get(f"PHASEFLOW_{name.upper()}_URL") or default).rstrip("/")

    return Settings(
        home=home,
        store=env.get("PHASEFLOW_STORE") or str(home / "store"),
        data_mirror=_path(env, "PHASEFLOW_DATA_MIRROR"),
        offline=env.get("PHASEFLOW_OFFLINE", "") not in {"", "0"},
        port_offset=offset,
        airflow_url=url("airflow"),
        mlflow_url=url("mlflow"),
        pipelines_url=url("pipelines"),
        serving_url=url("serving"),
        monitor_url=url("monitor"),
        evidently_url=url("evidently"),
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
        bin=_path(env, "PHASEFLOW_BIN"),
        grafana_home=_path(env, "PHASEFLOW_GRAFANA_HOME"),
        grafana_mirror=(env.get("PHASEFLOW_GRAFANA_MIRROR") or GRAFANA_MIRROR).rstrip("/"),
        env_file=_path(env, "PHASEFLOW_ENV_FILE"),
        log_format=_log_format(env.get("PHASEFLOW_LOG_FORMAT") or "text"),
        host=env.get("PHASEFLOW_HOST") or "127.0.0.1",
        public_url=(env.get("PHASEFLOW_PUBLIC_URL") or "").rstrip("/"),
        evidently_page=(env.get("PHASEFLOW_EVIDENTLY_PAGE") or "").rstrip("/"),
        kfp_page=env.get("PHASEFLOW_KFP_PAGE", "") not in {"", "0"},
        projects=(ROOT / "projects", *_paths(env, "PHASEFLOW_PROJECTS")),
        only=frozenset(filter(None, env.get("PHASEFLOW_ONLY", "").split(","))),
        images=env.get("PHASEFLOW_IMAGES") or "",
        serving_poll_seconds=number("PHASEFLOW_SERVING_POLL_SECONDS") or 1,
        serving_ship_seconds=number("PHASEFLOW_SERVING_SHIP_SECONDS") or 2,
        allowed_hosts=_words(env, "PHASEFLOW_ALLOWED_HOSTS"),
        allowed_origins=tuple(origin.rstrip("/") for origin in _words(env, "PHASEFLOW_ALLOWED_ORIGINS")),
        feedback_tokens=env.get("PHASEFLOW_FEEDBACK_TOKENS", "") not in {"", "0"},
        retrainings_per_day=number("PHASEFLOW_RETRAININGS_PER_DAY") or 20,
        alert_receivers=_path(env, "PHASEFLOW_ALERT_RECEIVERS"),
    )
