"""`python -m cli.local.grafana_archive` installs Grafana for this machine: a pinned archive of Grafana Labs, held against its SHA-256."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx

from cli.local import binaries
from cli.local.binaries import Say
from phaseflow.errors import PlatformError
from phaseflow.settings import GRAFANA_MIRROR, Settings, from_environment

SHA256: Final[Mapping[str, str]] = {
    "linux-amd64": "6720d8b0b48d92e2b33b7bf30b38480c12964ccd87285e5e754aa554165edf2d",
    "linux-arm64": "beabeddf14dd5f435ac0c6d7fac71a585381515e879cc44eeea79a4ff7f7e52c",
}
"""Digest of the archive of `binaries.GRAFANA_VERSION` by platform."""
MACHINES: Final[Mapping[str, str]] = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
ELSEWHERE: Final = "Install it (macOS: `brew install grafana`), or set PHASEFLOW_GRAFANA_HOME to the folder of one"
SHARE: Final = 0.1
"""Share of the download between two lines of progress."""


def this_platform() -> str:
    """The name of this machine's operating system and processor in names of archives, such as `linux-amd64`."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{MACHINES.get(machine, machine)}"


def install(settings: Settings, say: Say) -> Path:
    """Return Grafana's folder on this machine; download and unpack it if there is none.

    Raises PlatformError if there is no archive for this machine, the download fails, or its digest is another one.
    """
    home = binaries.grafana(settings)
    if home:
        return home
    name = this_platform()
    if name not in SHA256:
        raise PlatformError(f"No archive of Grafana is pinned for {name}", fix=ELSEWHERE)
    if settings.offline:
        raise PlatformError("Grafana is not on this machine, and PHASEFLOW_OFFLINE forbids a download", fix=ELSEWHERE)
    target = binaries.grafana_cache()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".grafana-", dir=target.parent) as folder:
        archive = Path(folder) / "archive.tar.gz"
        address = f"{settings.grafana_mirror}/grafana-{binaries.GRAFANA_VERSION}.{name}.tar.gz"
        digest = _download(address, archive, say)
        if digest != SHA256[name]:
            raise PlatformError(
                f"{address} has the SHA-256 {digest}; expected: {SHA256[name]}",
                fix="Use another mirror (PHASEFLOW_GRAFANA_MIRROR): this one has a damaged or another archive",
            )
        say("unpacking it")
        content = Path(folder) / "content"
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(content, filter="data")
        except tarfile.TarError as error:
            raise PlatformError(f"{address} can't be unpacked: {error}", fix=ELSEWHERE) from error
        roots = [path for path in content.iterdir() if (path / "bin" / "grafana").exists()]
        if len(roots) != 1:
            raise PlatformError(f"{address} holds no Grafana", fix=ELSEWHERE)
        shutil.rmtree(target, ignore_errors=True)  # of a version that another process is removing
        roots[0].replace(target)
    return target


def _download(address: str, path: Path, say: Say) -> str:
    """Write what is at an address to a file; return its SHA-256."""
    say(f"downloading {address}")
    digest, size, shown = hashlib.sha256(), 0, 0.0
    try:
        with (
            httpx.stream("GET", address, follow_redirects=True, timeout=60) as response,
            path.open("wb") as file,
        ):
            response.raise_for_status()
            total = int(response.headers.get("content-length", 0))
            for chunk in response.iter_raw():
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                if total and size / total >= shown + SHARE:
                    shown = size / total
                    say(f"{size >> 20} of {total >> 20} MiB")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PlatformError(
            f"{address} can't be downloaded: {error}",
            fix="Try again, or set PHASEFLOW_GRAFANA_MIRROR to the address of a mirror of " + GRAFANA_MIRROR,
        ) from error
    return digest.hexdigest()


def main() -> int:
    """Install Grafana, and print its folder."""
    try:
        home = install(from_environment(), say=lambda text: print(text, file=sys.stderr))
    except PlatformError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"grafana: {os.fspath(home)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
