"""The image lock and the mirror against a real registry (Debian's docker-registry) on the loopback."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from helm import charts, digests, images, mirror
from helm.images import Image
from phaseflow.errors import PlatformError

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ARCHITECTURES = ("amd64", "arm64")
UPSTREAM = "127.0.0.7"
"""Its registry listens on port 80, so that an image's name has no port: a name in a mirror may hold none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A running registry."""

    name: str

    def put(self, image: str, path: str, content: bytes, kind: str) -> None:
        url = f"http://{self.name}/v2/{image}/manifests/{path}"
        httpx.put(url, content=content, headers={"Content-Type": kind}).raise_for_status()

    def blob(self, image: str, content: bytes) -> dict[str, object]:
        """Uploads one blob; its descriptor."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        started = httpx.post(f"http://{self.name}/v2/{image}/blobs/uploads/")
        started.raise_for_status()
        url = httpx.URL(started.headers["Location"]).copy_add_param("digest", digest)
        httpx.put(url, content=content).raise_for_status()
        return {"digest": digest, "size": len(content)}

    def push(self, image: str, tag: str, text: str) -> str:
        """Pushes an image of two architectures that holds `text`; the digest of its index."""
        manifests = []
        for architecture in ARCHITECTURES:
            layer = io.BytesIO()
            with tarfile.open(fileobj=layer, mode="w") as tar:
                entry = tarfile.TarInfo("text")
                entry.size = len(text)
                tar.addfile(entry, io.BytesIO(text.encode()))
            diff = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
            config = {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff]}}
            manifest = json.dumps(
                {
                    "schemaVersion": 2,
                    "mediaType": MANIFEST,
                    "config": {
                        "mediaType": "application/vnd.oci.image.config.v1+json",
                        **self.blob(image, json.dumps(config).encode()),
                    },
                    "layers": [
                        {"mediaType": "application/vnd.oci.image.layer.v1.tar", **self.blob(image, layer.getvalue())}
                    ],
                }
            ).encode()
            digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
            self.put(image, digest, manifest, MANIFEST)
            platform = {"architecture": architecture, "os": "linux"}
            manifests.append({"mediaType": MANIFEST, "digest": digest, "size": len(manifest), "platform": platform})
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()
        self.put(image, tag, index, INDEX)
        return f"sha256:{hashlib.sha256(index).hexdigest()}"


def serve(folder: Path, host: str, port: int) -> Iterator[Registry]:
    program = shutil.which("docker-registry")
    assert program, "No docker-registry is on the PATH. Get it: `apt install docker-registry`."
    config = folder / "config.json"
    storage = {"filesystem": {"rootdirectory": str(folder)}}
    config.write_text(json.dumps({"version": "0.1", "storage": storage, "http": {"addr": f"{host}:{port}"}}))
    process = subprocess.Popen([program, "serve", config], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "listening on" in line:
                break
        else:
            pytest.fail(f"docker-registry did not start: {said}")
        yield Registry(name=host if port == 80 else f"{host}:{port}")
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    yield from serve(tmp_path_factory.mktemp("upstream"), UPSTREAM, 80)


@pytest.fixture
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    yield from serve(tmp_path_factory.mktemp("ours"), "127.0.0.1", port)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(follow_redirects=True) as found:
        yield found


def image(upstream: Registry, digest: str = "") -> Image:
    return Image(name=f"{upstream.name}/team/thing", tag="1.2", digest=digest, values=("x: image",))


def test_a_tag_s_digest_is_that_of_the_index_of_all_architectures(upstream: Registry, client: httpx.Client) -> None:
    digest = upstream.push("team/thing", "1.2", "hello")
    assert digests.resolve(f"{upstream.name}/team/thing", "1.2", client) == digest


def test_the_lock_writes_digests_and_nothing_else(
    upstream: Registry, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = upstream.push("team/thing", "1.2", "hello")
    monkeypatch.setattr(charts, "FOLDER", tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "Chart.yaml").write_text("{name: x, version: 1.0.0}")
    before = f"""\
# A word before all.
part:
  image:
    # -- Its image.
    repository: {upstream.name}/team/thing
    # -- Its tag.
    tag: "1.2"
    # -- Its digest.
    digest: ""
  # -- Requests and limits.
  resources: {{requests: {{cpu: 50m, memory: 128Mi}}, limits: {{memory: 512Mi}}}}
"""
    (tmp_path / "x" / "values.yaml").write_text(before)
    (found,) = images.gather([charts.read("x")])
    known = {found.reference: digests.resolve(found.name, found.tag, client)}
    images.write_digests(charts.read("x"), known)
    after = (tmp_path / "x" / "values.yaml").read_text()
    assert after == before.replace('digest: ""', f'digest: "{digest}"')
    (found,) = images.gather([charts.read("x")])
    assert f"digest: {digest}\n" in images.lock([found])


@pytest.mark.parametrize("copier", ["skopeo", "docker"])
def test_a_mirror_has_every_architecture_under_the_same_digest(
    upstream: Registry, ours: Registry, client: httpx.Client, copier: str
) -> None:
    assert shutil.which(copier), f"No {copier} is on the PATH. Get it: `apt install {copier}`."
    digest = upstream.push("team/thing", "1.2", "hello")
    said: list[str] = []
    mirror.copy([image(upstream, digest)], f"{ours.name}/ml", client, said.append, [copier])
    there = f"{ours.name}/ml/{upstream.name}/team/thing"
    assert said == [f"{upstream.name}/team/thing:1.2 -> {there}:1.2"]
    index = client.get(
        f"http://{ours.name}/v2/ml/{upstream.name}/team/thing/manifests/{digest}", headers={"Accept": INDEX}
    )
    assert index.is_success
    assert sorted(it["platform"]["architecture"] for it in index.json()["manifests"]) == sorted(ARCHITECTURES)
    for each in index.json()["manifests"]:
        address = f"http://{ours.name}/v2/ml/{upstream.name}/team/thing/manifests/{each['digest']}"
        manifest = client.get(address, headers={"Accept": MANIFEST})
        assert manifest.is_success
        for layer in manifest.json()["layers"]:
            blob = client.get(f"http://{ours.name}/v2/ml/{upstream.name}/team/thing/blobs/{layer['digest']}")
            assert b"hello" in blob.content


def test_a_mirror_takes_what_the_lock_says_though_the_tag_has_moved(
    upstream: Registry, ours: Registry, client: httpx.Client
) -> None:
    locked = upstream.push("team/thing", "1.2", "hello")
    moved = upstream.push("team/thing", "1.2", "something else")
    assert moved != locked
    mirror.copy([image(upstream, locked)], ours.name, client, print)
    assert digests.resolve(f"{ours.name}/{upstream.name}/team/thing", "1.2", client) == locked


def test_a_mirror_asks_for_the_digest_that_the_lock_lacks(
    upstream: Registry, ours: Registry, client: httpx.Client
) -> None:
    digest = upstream.push("team/thing", "1.2", "hello")
    mirror.copy([image(upstream)], ours.name, client, print)
    assert digests.resolve(f"{ours.name}/{upstream.name}/team/thing", "1.2", client) == digest


def test_an_image_that_the_registry_does_not_have_is_said(
    upstream: Registry, ours: Registry, client: httpx.Client
) -> None:
    with pytest.raises(PlatformError) as error:
        mirror.copy([image(upstream)], ours.name, client, print)
    assert str(error.value) == (
        f"http://{UPSTREAM} answers 404 for {UPSTREAM}/team/thing:1.2. Correct name and tag in the chart's values."
    )
    with pytest.raises(PlatformError, match=r"ended with \d+: .*\. See to what it says, then mirror again"):
        mirror.copy([image(upstream, f"sha256:{'0' * 64}")], ours.name, client, print)


def test_own_images_go_to_the_mirror_as_the_charts_ask_for_them(
    ours: Registry, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "k8s").mkdir()
    (tmp_path / "k8s" / "images.hcl").write_text(
        'target "thing" {\n  dockerfile-inline = "FROM scratch\\nCOPY text /text"\n'
        '  context = "."\n  tags = ["phaseflow-mirror-test/thing:dev"]\n}\n'
        'group "default" { targets = ["thing"] }\n'
    )
    (tmp_path / "text").write_text("hello")
    monkeypatch.setattr(mirror, "ROOT", tmp_path)
    bake = ["docker", "buildx", "bake", "--load", "--file", tmp_path / "k8s" / "images.hcl"]
    subprocess.run(bake, cwd=tmp_path, check=True, capture_output=True)
    try:
        mirror.push(ours.name, print)
    finally:
        tags = ("phaseflow-mirror-test/thing:dev", f"{ours.name}/phaseflow-mirror-test/thing:dev")
        subprocess.run(["docker", "image", "rm", *tags], check=True, capture_output=True)
    assert digests.resolve(f"{ours.name}/phaseflow-mirror-test/thing", "dev", client).startswith("sha256:")


def test_a_registry_that_is_away_is_said(client: httpx.Client) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{taken.getsockname()[1]}/team/thing"
        with pytest.raises(PlatformError, match=r"can't be asked for .*: .*refused.*\. See to the network\."):
            digests.resolve(name, "1.2", client)
