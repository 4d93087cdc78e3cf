"""Run the one login as the charts render it: nginx and oauth2-proxy before the parts, and a real OpenID Connect provider."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

import httpx

from cli.charts.tests import nginx
from cli.charts.tests.nginx import listening
from cli.charts.tests.rendering import Helm, Object
from phaseflow.settings import ROOT
from phaseflow.testing import free_ports, wait_for

COOKIE: Final = "phaseflow_session"
PAGE: Final = {"accept": "text/html"}
"""The header by which a browser asks for a page."""
FIRST_PAGE: Final = "/monitor/reports?a=1&b=2"
USERS: Final = {"viewer": "vera", "operator": "olga", "admin": "anna"}
"""Users of the provider by role; `nobody` is in no group with a role."""


@dataclass(frozen=True, slots=True)
class Platform:
    """The reverse proxy with its login."""

    proxy: nginx.Proxy
    first_page: str

    def client(self, **options: object) -> httpx.Client:
        return self.proxy.client(**options)

    def session(self, user: str) -> httpx.Client:
        """A client with the user's session, which opened a page and came back to it."""
        client = self.client()
        arrived = log_in(client, self.first_page, user)
        assert str(arrived.url) == f"{self.proxy.address}{self.first_page}"
        return client


def log_in(client: httpx.Client, path: str, user: str) -> httpx.Response:
    """Open a page as a browser does, and fill in the provider's form."""
    form = client.get(path, headers=PAGE, follow_redirects=True)
    action = re.search(r'action="([^"]+)"', form.text)
    assert action, form.text
    data = {"prompt": "login", "login": user, "password": "x"}
    return client.post(urljoin(str(form.url), action[1]), data=data, headers=PAGE, follow_redirects=True)


@contextmanager
def program(
    port: int, log: Path, *command: str, environment: Mapping[str, str] | None = None, seconds: float = 120
) -> Iterator[None]:
    """Run a program until the end of the block, which starts when the program listens."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            wait_for(f"{command[0]} listens", lambda: listening(port) or process.poll() is not None, seconds)
            assert process.poll() is None, log.read_text()
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:  # a busy machine
                process.kill()
                process.wait(timeout=20)


def programs() -> Path:
    """The folder of oauth2-proxy and the provider, which are installed if need be."""
    completed = subprocess.run([ROOT / "bin" / "login-programs"], capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    return Path(completed.stdout.strip())


def values(issuer: str, public: str, more: Mapping[str, str] | None = None) -> list[str]:
    """Helm's arguments for the small profile with a login."""
    sets = {
        "global.publicUrl": public,
        "global.auth.oidc.enabled": "true",
        "global.auth.oidc.issuer": issuer,
        "global.auth.oidc.existingSecret": "login",
        "global.auth.oidc.roles.viewer": "{viewers}",
        "global.auth.oidc.roles.operator": "{operators}",
        "global.auth.oidc.roles.admin": "{admins}",
        # Kubeflow Pipelines: the local engine takes nothing but GET.
        "pipelines.engine": "kfp",
        "kubeflow-pipelines.enabled": "true",
        **(more or {}),
    }
    profile = ["--values", str(ROOT / "helm/platform/values-small.yaml")]
    return [*profile, *(word for key, value in sets.items() for word in ("--set", f"{key}={value}"))]


def login_command(objects: tuple[Object, ...], folder: Path, port: int) -> list[str]:
    """The options of the login's container, with its files below `folder`."""
    (folder / "login").mkdir()
    (folder / "login" / "client_secret").write_text("client-secret")
    (folder / "login" / "cookie_secret").write_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    (container,) = nginx.deployment(objects, "login")["spec"]["template"]["spec"]["containers"]
    return [
        option.replace("/etc/phaseflow/", f"{folder}/").replace("0.0.0.0:4180", f"127.0.0.1:{port}")
        for option in container["args"]
    ]


@contextmanager
def running(
    helm: Helm,
    folder: Path,
    parts: nginx.Upstreams,
    replaced: Mapping[str, str] | None = None,
    more: Mapping[str, str] | None = None,
    first_page: str = FIRST_PAGE,
) -> Iterator[Platform]:
    """Run provider, login and reverse proxy before `parts`.

    `replaced` are options of oauth2-proxy instead of those of the charts, and `more` are further values of the charts.
    """
    installed = programs()
    provider, login, proxy = free_ports(3)
    public = f"http://127.0.0.1:{proxy}"
    objects = helm.objects("platform", *values(f"http://127.0.0.1:{provider}", public, more))
    server = ("node", str(installed / "server.js"), str(provider), f"{public}/oauth2/callback")
    options = login_command(objects, folder, login) + [f"{name}={value}" for name, value in (replaced or {}).items()]
    upstreams = nginx.Upstreams(default=parts.default, by_name={**parts.by_name, "p-login": login})
    with (
        program(provider, folder / "provider.log", *server),
        program(login, folder / "login.log", str(installed / "oauth2-proxy"), *options),
        nginx.running(objects, folder, upstreams, proxy) as running_proxy,
    ):
        yield Platform(running_proxy, first_page)
