"""Digests and architectures of images, from the API of the Distribution specification (/v2/<name>/manifests/<tag>)."""

from __future__ import annotations

import re
from typing import Final

import httpx

from phaseflow.errors import PlatformError

_ACCEPT: Final = ", ".join(
    (
        # Prefer the multi-architecture index, so that the digest is valid for every architecture.
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_BASE: Final = re.compile(r'^(variable "BASE" \{ default = ")([^"@]+)(?:@sha256:[0-9a-f]{64})?(" \})$', re.MULTILINE)
_CHALLENGE: Final = re.compile(r'(\w+)="([^"]*)"')
_LOOPBACK: Final = ("localhost", "127.", "[::1]")


def address(name: str) -> tuple[str, str]:
    """The registry (scheme and host) of an image and its name there, by Docker's rules for short names."""
    host, slash, rest = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        return "https://registry-1.docker.io", name if slash else f"library/{name}"
    return f"{'http' if loopback(host) else 'https'}://{host}", rest


def loopback(registry: str) -> bool:
    """Whether a registry is on this machine, where plain HTTP is allowed."""
    return registry.startswith(_LOOPBACK)


def resolve(name: str, tag: str, client: httpx.Client) -> str:
    """The digest of `name:tag`.

    Raises PlatformError if the registry is unreachable, lacks the image or requires a login.
    """
    digest = _request("HEAD", name, f"manifests/{tag}", client).headers.get("Docker-Content-Digest", "")
    if not _DIGEST.fullmatch(digest):
        registry, _ = address(name)
        raise PlatformError(
            f"{registry} returned no valid digest for {name}:{tag}: {digest!r}", fix="Use another registry"
        )
    return str(digest)


def architectures(name: str, reference: str, client: httpx.Client) -> frozenset[str]:
    """The architectures that an image is built for. `reference` is a tag or a digest.

    Raises PlatformError like `resolve`.
    """
    manifest = _request("GET", name, f"manifests/{reference}", client).json()
    if "manifests" in manifest:  # an index; its attestations have the architecture "unknown"
        platforms = (entry.get("platform", {}).get("architecture", "") for entry in manifest["manifests"])
        return frozenset(platforms) - {"", "unknown"}
    config = _request("GET", name, f"blobs/{manifest['config']['digest']}", client).json()
    return frozenset({config["architecture"]})


def _request(method: str, name: str, path: str, client: httpx.Client) -> httpx.Response:
    """Response of an image's registry, after an anonymous login if it asks for one."""
    registry, repository = address(name)
    url = f"{registry}/v2/{repository}/{path}"
    image = f"{name}:{path.partition('/')[2]}"
    headers = {"Accept": _ACCEPT}
    try:
        response = client.request(method, url, headers=headers)
        if response.status_code == httpx.codes.UNAUTHORIZED and (token := _token(response, client)):
            headers["Authorization"] = f"Bearer {token}"
            response = client.request(method, url, headers=headers)
    except httpx.HTTPError as error:
        raise PlatformError(f"{registry} can't be asked for {image}: {error}", fix="See to the network") from error
    if response.is_error:
        raise PlatformError(
            f"{registry} answers {response.status_code} for {image}", fix="Correct name and tag in the chart's values"
        )
    return response


def pinned(bake: str, client: httpx.Client) -> str:
    """The text of a bake file with the digest of its base image, `variable "BASE" { default = "name:tag@digest" }`.

    Raises PlatformError like `resolve`, and if the file names no base image.
    """
    base = _BASE.search(bake)
    if base is None:
        raise PlatformError("The bake file names no base image", fix='Add `variable "BASE" { default = "name:tag" }`')
    reference = base[2]
    name, _, tag = reference.rpartition(":")
    return _BASE.sub(rf"\g<1>{reference}@{resolve(name, tag, client)}\g<3>", bake)


def _token(unauthorized: httpx.Response, client: httpx.Client) -> str:
    """Request an anonymous token (token authentication of the Distribution specification); empty if there is none."""
    challenge = dict(_CHALLENGE.findall(unauthorized.headers.get("WWW-Authenticate", "")))
    if "realm" not in challenge:
        return ""
    token_response = client.get(challenge.pop("realm"), params=challenge)
    payload = token_response.json() if token_response.is_success else {}
    return str(payload.get("token") or payload.get("access_token") or "")
