"""Run nginx with the reverse proxy's configuration as the charts render it, in a folder of a test."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from cli.charts.tests.rendering import Object, name, of_kind
from phaseflow.testing import wait_for

PASSWORDS: Final = {"prometheus": "prometheus-password", "alertmanager": "alertmanager-password"}
LOGIN: Final = ("admin", "proxy-password")
IDENTITY: Final = "identity-secret"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running nginx."""

    address: str
    log: Path

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=30, trust_env=False, **options)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstreams:
    """Local ports that stand for the Services: one for all, and others by the Service's name."""

    default: int
    by_name: Mapping[str, int] = field(default_factory=dict)

    def port(self, service: str) -> int:
        return self.by_name.get(service, self.default)


def deployment(objects: tuple[Object, ...], component: str = "proxy") -> Object:
    (manifest,) = [
        manifest for manifest in of_kind(objects, "Deployment") if manifest["metadata"]["name"] == f"p-{component}"
    ]
    return manifest


def configuration(objects: tuple[Object, ...], file: str = "default.conf") -> str:
    text: str = next(manifest["data"][file] for manifest in objects if name(manifest) == "ConfigMap p-proxy")
    return text


@contextmanager
def running(objects: tuple[Object, ...], folder: Path, upstreams: Upstreams, port: int) -> Iterator[Proxy]:
    """Run nginx as the Deployment does, with its files below `folder`, until the end of the block."""
    assert shutil.which("nginx"), "nginx is not on the PATH. Install it: `apt install nginx-light`."
    _secrets(folder)
    _run_init_container(objects, folder)
    text = _site(configuration(objects), folder, upstreams, port)
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "default.conf").write_text(text)
    (folder / "nginx.conf").write_text(_main(configuration(objects, "nginx.conf"), folder))
    if " ssl;" in text:
        _certificate(folder)
    command = ["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"), "-g", "daemon off;"]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(command)
    try:
        wait_for("nginx listens", lambda: listening(port), 20)
        yield Proxy(f"http{'s' if ' ssl;' in text else ''}://127.0.0.1:{port}", folder / "error.log")
    finally:
        process.terminate()
        process.wait(timeout=20)


def listening(port: int) -> bool:
    """Whether a program of this machine listens on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _secrets(folder: Path) -> None:
    (folder / "logins").mkdir()
    for part, password in PASSWORDS.items():
        (folder / "logins" / f"{part}_password").write_text(password)
    (folder / "htpasswd").write_text(":{PLAIN}".join(LOGIN))
    (folder / "identity").mkdir()
    (folder / "identity" / "identity_secret").write_text(IDENTITY)


def _run_init_container(objects: tuple[Object, ...], folder: Path) -> None:
    (logins,) = deployment(objects)["spec"]["template"]["spec"]["initContainers"]
    script = logins["args"][0].replace("/etc/phaseflow/", f"{folder}/").replace("/tmp/logins", f"{folder}/tmp/logins")
    subprocess.run([*logins["command"], script], check=True)


def _site(text: str, folder: Path, upstreams: Upstreams, port: int) -> str:
    def local(match: re.Match[str]) -> str:
        return f"{match[1]}127.0.0.1:{upstreams.port(match[2])}"

    text = re.sub(r"(http://)((?:p-|ml-pipeline-ui)[\w-]*):\d+", local, text)
    text = re.sub(r"(server )(p-serving-[\w-]+):3000", local, text)
    text = text.replace("listen 8080", f"listen 127.0.0.1:{port}")
    for inside, here in {
        "/etc/phaseflow/proxy/": f"{folder}/",
        "/etc/phaseflow/tls/": f"{folder}/",
        "/tmp/logins/": f"{folder}/tmp/logins/",
    }.items():
        text = text.replace(inside, here)
    return text


def _main(text: str, folder: Path) -> str:
    text = text.replace("/tmp/", f"{folder}/").replace("/etc/nginx/conf.d", f"{folder}/conf.d")
    if os.geteuid() == 0:  # only the current user may read the folders of the tests
        text = f"user root;\n{text}"
    text = text.replace("worker_processes auto", "worker_processes 1")
    return text.replace("error_log /dev/stderr", f"error_log {folder}/error.log")


def _certificate(folder: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=localhost"]
    command += ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    subprocess.run(command, check=True, capture_output=True)
