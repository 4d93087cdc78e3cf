"""The image lock and the mirror, tested with real registries (Debian's docker-registry) on the loopback."""

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

from cli.charts import charts, digests, images, mirror
from cli.charts.__main__ import main
from cli.charts.images import Image
from phaseflow.errors import PlatformError
from phaseflow.testing import free_port

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ARCHITECTURES = ("amd64", "arm64")
UPSTREAM = "127.0.0.7"
"""Address of the upstream registry. It listens on port 80, because image names in a mirror must not contain a port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A running registry."""

    name: str

    def put(self, image: str, path: str, content: bytes, kind: str) -> None:
        url = f"http://{self.name}/v2/{image}/manifests/{path}"
        httpx.put(url, content=content, headers={"Content-Type": kind}).raise_for_status()

    def blob(self, image: str, content: bytes) -> dict[str, object]:
        """Upload a blob and return its descriptor."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        response = httpx.post(f"http://{self.name}/v2/{image}/blobs/uploads/")
        response.raise_for_status()
        url = httpx.URL(response.headers["Location"]).copy_add_param("digest", digest)
        httpx.put(url, content=content).raise_for_status()
        return {"digest": digest, "size": len(content)}

    def push(self, image: str, tag: str, text: str) -> str:
        """Push an image of two architectures that contains `text`; return the digest of its index."""
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
    assert program, "docker-registry is not on the PATH. Install it with `apt install docker-registry`."
    config = folder / "config.json"
    storage = {"filesystem": {"rootdirectory": str(folder)}}
    config.write_text(json.dumps({"version": "0.1", "storage": storage, "http": {"addr": f"{host}:{port}"}}))
    process = subprocess.Popen([program, "serve", config], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        log = ""
        for line in process.stderr:
            log += line
            if "listening on" in line:
                break
        else:
            pytest.fail(f"docker-registry did not start: {log}")
        yield Registry(name=host if port == 80 else f"{host}:{port}")
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    yield from serve(tmp_path_factory.mktemp("upstream"), UPSTREAM, 80)


@pytest.fixture
def mirror_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    port = free_port()
    yield from serve(tmp_path_factory.mktemp("ours"), "127.0.0.1", port)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(follow_redirects=True) as http:
        yield http


def image(upstream: Registry, digest: str = "") -> Image:
    return Image(name=f"{upstream.name}/team/thing", tag="1.2", digest=digest, values=("x: image",))


def test_a_tag_s_digest_is_that_of_the_index_of_all_architectures(upstream: Registry, client: httpx.Client) -> None:
    digest = upstream.push("team/thing", "1.2", "hello")
    assert digests.resolve(f"{upstream.name}/team/thing", "1.2", client) == digest


def test_platforms_are_those_of_the_index_or_of_the_one_image(mirror_registry: Registry, client: httpx.Client) -> None:
    index = mirror_registry.push("team/thing", "1.2", "hello")
    name = f"{mirror_registry.name}/team/thing"
    assert digests.architectures(name, "1.2", client) == {"amd64", "arm64"}
    manifests = client.get(f"http://{mirror_registry.name}/v2/team/thing/manifests/{index}", headers={"Accept": INDEX})
    for entry in manifests.json()["manifests"]:
        assert digests.architectures(name, entry["digest"], client) == {entry["platform"]["architecture"]}


def test_an_image_without_the_architecture_of_the_nodes_is_named(
    mirror_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(charts, "FOLDER", tmp_path)
    mirror_registry.push("team/thing", "1.2", "hello")
    name = f"{mirror_registry.name}/team/thing"
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "Chart.yaml").write_text("{name: x, version: 1.0.0}")
    (tmp_path / "x" / "values.yaml").write_text(f'# -- One.\none: {{repository: {name}, tag: "0", digest: ""}}\n')
    values = tmp_path / "values-other.yaml"
    values.write_text('x: {one: {tag: "1.2"}}')
    options = ["reach", "--values", str(values), "--architecture", "arm64", "--architecture", "s390x"]
    assert main(options) == 0
    assert json.loads(capsys.readouterr().out) == {f"{name}:1.2": "It has no build for s390x, only for amd64, arm64"}
    assert main(options[:-2]) == 0
    assert json.loads(capsys.readouterr().out) == {f"{name}:1.2": ""}


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
    (entry,) = images.gather([charts.read("x")])
    resolved = {entry.reference: digests.resolve(entry.name, entry.tag, client)}
    images.write_digests(charts.read("x"), resolved)
    after = (tmp_path / "x" / "values.yaml").read_text()
    assert after == before.replace('digest: ""', f'digest: "{digest}"')
    (entry,) = images.gather([charts.read("x")])
    assert f"digest: {digest}\n" in images.lock([entry])


@pytest.mark.parametrize("copier", ["skopeo", "docker"])
def test_a_mirror_has_every_architecture_under_the_same_digest(
    upstream: Registry, mirror_registry: Registry, client: httpx.Client, copier: str
) -> None:
    assert shutil.which(copier), f"{copier} is not on the PATH. Install it with `apt install {copier}`."
    digest = upstream.push("team/thing", "1.2", "hello")
    messages: list[str] = []
    mirror.copy([image(upstream, digest)], f"{mirror_registry.name}/ml", client, messages.append, [copier])
    target = f"{mirror_registry.name}/ml/{upstream.name}/team/thing"
    assert messages == [f"{upstream.name}/team/thing:1.2 -> {target}:1.2"]
    index = client.get(
        f"http://{mirror_registry.name}/v2/ml/{upstream.name}/team/thing/manifests/{digest}", headers={"Accept": INDEX}
    )
    assert index.is_success
    assert sorted(entry["platform"]["architecture"] for entry in index.json()["manifests"]) == sorted(ARCHITECTURES)
    for entry in index.json()["manifests"]:
        address = f"http://{mirror_registry.name}/v2/ml/{upstream.name}/team/thing/manifests/{entry['digest']}"
        manifest = client.get(address, headers={"Accept": MANIFEST})
        assert manifest.is_success
        for layer in manifest.json()["layers"]:
            blob = client.get(f"http://{mirror_registry.name}/v2/ml/{upstream.name}/team/thing/blobs/{layer['digest']}")
            assert b"hello" in blob.content


def test_a_mirror_copies_the_locked_digest_even_if_the_tag_has_moved(
    upstream: Registry, mirror_registry: Registry, client: httpx.Client
) -> None:
    locked = upstream.push("team/thing", "1.2", "hello")
    moved = upstream.push("team/thing", "1.2", "something else")
    assert moved != locked
    mirror.copy([image(upstream, locked)], mirror_registry.name, client, print)
    assert digests.resolve(f"{mirror_registry.name}/{upstream.name}/team/thing", "1.2", client) == locked


def test_a_mirror_resolves_a_digest_that_the_lock_lacks(
    upstream: Registry, mirror_registry: Registry, client: httpx.Client
) -> None:
    digest = upstream.push("team/thing", "1.2", "hello")
    mirror.copy([image(upstream)], mirror_registry.name, client, print)
    assert digests.resolve(f"{mirror_registry.name}/{upstream.name}/team/thing", "1.2", client) == digest


def test_an_image_that_the_registry_lacks_is_an_error(
    upstream: Registry, mirror_registry: Registry, client: httpx.Client
) -> None:
    with pytest.raises(PlatformError) as error:
        mirror.copy([image(upstream)], mirror_registry.name, client, print)
    assert str(error.value) == (
        f"http://{UPSTREAM} answers 404 for {UPSTREAM}/team/thing:1.2. Correct name and tag in the chart's values."
    )
    with pytest.raises(PlatformError, match=r"ended with \d+: .*\. See to what it says, then mirror again"):
        mirror.copy([image(upstream, f"sha256:{'0' * 64}")], mirror_registry.name, client, print)


def test_own_images_have_the_names_in_the_mirror_that_the_charts_use(
    mirror_registry: Registry, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "k8s").mkdir()
    (tmp_path / "k8s" / "images.hcl").write_text(
        'target "thing" {\n  dockerfile-inline = "FROM scratch\\nCOPY text /text"\n'
        '  context = "."\n  tags = ["phaseflow-mirror-test/thing:dev"]\n}\n'
        'group "default" { targets = ["thing"] }\n'
    )
    (tmp_path / "text").write_text("hello")
    monkeypatch.setattr(mirror, "ROOT", tmp_path)
    bake = ["docker", "buildx", "bake", "--load", "--file", str(tmp_path / "k8s" / "images.hcl")]
    subprocess.run(bake, cwd=tmp_path, check=True, capture_output=True)
    try:
        mirror.push(mirror_registry.name, print)
    finally:
        tags = ("phaseflow-mirror-test/thing:dev", f"{mirror_registry.name}/phaseflow-mirror-test/thing:dev")
        subprocess.run(["docker", "image", "rm", *tags], check=True, capture_output=True)
    assert digests.resolve(f"{mirror_registry.name}/phaseflow-mirror-test/thing", "dev", client).startswith("sha256:")


def test_an_unreachable_registry_is_an_error(client: httpx.Client) -> None:
    with socket.socket() as probe:  # bound, but not listening
        probe.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{probe.getsockname()[1]}/team/thing"
        with pytest.raises(PlatformError, match=r"can't be asked for .*: .*refused.*\. See to the network\."):
            digests.resolve(name, "1.2", client)
