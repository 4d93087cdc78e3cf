"""Asks a registry which digest a tag has, by the Distribution specification's API (HEAD /v2/<name>/manifests/<tag>)."""

from __future__ import annotations

import re
from typing import Final

import httpx

from phaseflow.errors import PlatformError

_ACCEPT: Final = ", ".join(
    (
        # The index of all architectures first, so that the digest holds for each of them.
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
    """An image's registry (scheme and host) and its name there, by Docker's rules for short names."""
    host, slash, rest = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        return "https://registry-1.docker.io", name if slash else f"library/{name}"
    return f"{'http' if loopback(host) else 'https'}://{host}", rest


def loopback(registry: str) -> bool:
    """Whether a registry is on this machine, where it may speak HTTP."""
    return registry.startswith(_LOOPBACK)


def resolve(name: str, tag: str, client: httpx.Client) -> str:
    """The digest of `name:tag`.

    Raises PlatformError when the registry is away, has no such image, or wants a login.
    """
    registry, path = address(name)
    url = f"{registry}/v2/{path}/manifests/{tag}"
    headers = {"Accept": _ACCEPT}
    try:
        answer = client.head(url, headers=headers)
        if answer.status_code == httpx.codes.UNAUTHORIZED and (token := _token(answer, client)):
            headers["Authorization"] = f"Bearer {token}"
            answer = client.head(url, headers=headers)
    except httpx.HTTPError as error:
        raise PlatformError(f"{registry} can't be asked for {name}:{tag}: {error}", fix="See to the network") from error
    if answer.is_error:
        raise PlatformError(
            f"{registry} answers {answer.status_code} for {name}:{tag}",
            fix="Correct name and tag in the chart's values",
        )
    digest = answer.headers.get("Docker-Content-Digest", "")
    if not _DIGEST.fullmatch(digest):
        raise PlatformError(f"{registry} gives no digest for {name}:{tag}, but {digest!r}", fix="Ask another registry")
    return str(digest)


def pinned(bake: str, client: httpx.Client) -> str:
    """The text of a bake file with the digest of its base image, `variable "BASE" { default = "name:tag@digest" }`.

    Raises PlatformError as `resolve` does, and when the file names no base.
    """
    base = _BASE.search(bake)
    if base is None:
        raise PlatformError("The bake file names no base image", fix='Add `variable "BASE" { default = "name:tag" }`')
    reference = base[2]
    name, _, tag = reference.rpartition(":")
    return _BASE.sub(rf"\g<1>{reference}@{resolve(name, tag, client)}\g<3>", bake)


def _token(refused: httpx.Response, client: httpx.Client) -> str:
    """What lets anyone read (the Distribution specification's token authentication); empty where nobody may."""
    told = dict(_CHALLENGE.findall(refused.headers.get("WWW-Authenticate", "")))
    if "realm" not in told:
        return ""
    answer = client.get(told.pop("realm"), params=told)
    found = answer.json() if answer.is_success else {}
    return str(found.get("token") or found.get("access_token") or "")
