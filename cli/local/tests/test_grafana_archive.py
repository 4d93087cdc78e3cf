"""Grafana's archive from a local server: it is held against its digest, and nothing else is left behind."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.local import binaries, grafana_archive
from phaseflow import PlatformError
from phaseflow.settings import Settings, from_environment
from phaseflow.testing import Request, Response, http_server


def archive(*names: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = 0o755, 4
            tar.addfile(entry, io.BytesIO(b"text"))
    return content.getvalue()


GRAFANA = archive("grafana-13.0.2/bin/grafana", "grafana-13.0.2/conf/defaults.ini")


class Mirror:
    """A mirror that answers with `content`, or with `status`."""

    def __init__(self) -> None:
        self.content, self.status = GRAFANA, 200
        self.paths: list[str] = []

    def respond(self, request: Request) -> Response:
        """The archive."""
        self.paths.append(request.path)
        return Response(self.content, self.status)


@pytest.fixture
def mirror() -> Mirror:
    return Mirror()


@pytest.fixture
def settings(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no Grafana of this machine
    monkeypatch.setattr(grafana_archive, "this_platform", lambda: "linux-amd64")
    monkeypatch.setattr(grafana_archive, "SHA256", {"linux-amd64": hashlib.sha256(GRAFANA).hexdigest()})
    with http_server(mirror.respond) as url:
        yield from_environment({"PHASEFLOW_GRAFANA_MIRROR": f"{url}/oss/"})


def install(settings: Settings) -> Path:
    return grafana_archive.install(settings, lambda _: None)


def test_it_is_unpacked_into_the_cache_and_found_there(settings: Settings, mirror: Mirror) -> None:
    assert binaries.grafana(settings) is None
    home = install(settings)
    assert (home / "bin" / "grafana").read_text() == "text"
    assert home == binaries.grafana(settings) == binaries.grafana_cache()
    assert install(settings) == home
    assert mirror.paths == [f"/oss/grafana-{binaries.GRAFANA_VERSION}.linux-amd64.tar.gz"]  # once
    assert [path.name for path in home.parent.iterdir()] == [home.name]


def test_another_archive_is_refused(settings: Settings, mirror: Mirror) -> None:
    mirror.content = archive("grafana-13.0.2/bin/grafana", "grafana-13.0.2/bin/more")
    with pytest.raises(PlatformError, match=r"has the SHA-256 .*; expected: ") as raised:
        install(settings)
    assert raised.value.fix.startswith("Use another mirror (PHASEFLOW_GRAFANA_MIRROR)")
    assert binaries.grafana(settings) is None
    assert not list(binaries.grafana_cache().parent.iterdir())


def test_a_mirror_without_it_is_named(settings: Settings, mirror: Mirror) -> None:
    mirror.status = 404
    with pytest.raises(PlatformError, match=r"can't be downloaded: .*404") as raised:
        install(settings)
    assert "set PHASEFLOW_GRAFANA_MIRROR to the address of a mirror" in raised.value.fix


def test_no_file_of_it_leaves_its_folder(settings: Settings, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.content = archive("grafana-13.0.2/bin/grafana", "../outside")
    digest = hashlib.sha256(mirror.content).hexdigest()
    monkeypatch.setattr(grafana_archive, "SHA256", {"linux-amd64": digest})
    with pytest.raises(PlatformError, match="can't be unpacked"):
        install(settings)
    assert not list(binaries.grafana_cache().parent.iterdir())


def test_without_an_archive_for_the_machine_it_says_what_to_do(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grafana_archive, "this_platform", lambda: "darwin-arm64")
    with pytest.raises(PlatformError, match="No archive of Grafana is pinned for darwin-arm64") as raised:
        install(settings)
    assert "brew install grafana" in raised.value.fix
