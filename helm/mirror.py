"""Copies the images into a registry of one's own, for a cluster that reaches no other: every architecture, same digest."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import httpx

from helm import digests
from helm.images import Image
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT

COPIERS: Final[tuple[tuple[str, Callable[[str, str], list[str]]], ...]] = (
    ("crane", lambda source, target: ["crane", "copy", source, target]),
    (
        "skopeo",
        lambda source, target: [
            *("skopeo", "copy", "--all", "--preserve-digests", "--quiet"),
            f"--src-tls-verify={str(not digests.loopback(source)).lower()}",
            f"--dest-tls-verify={str(not digests.loopback(target)).lower()}",
            f"docker://{source}",
            f"docker://{target}",
        ],
    ),
    (
        "docker",
        lambda source, target: [
            "docker",
            "buildx",
            "imagetools",
            "create",
            "--prefer-index=false",
            "--tag",
            target,
            source,
        ],
    ),
)
"""Programs that copy an image from registry to registry, the best first."""
Say = Callable[[str], None]


def copy(images: Iterable[Image], registry: str, client: httpx.Client, say: Say, copiers: Sequence[str] = ()) -> None:
    """Copies each image to `<registry>/<its whole name>:<tag>`, where `global.images.registry` makes the charts look for it.

    `copiers` names those that may be used; all of them where empty. Raises PlatformError when none is here, or a copy failed or
    has another digest.
    """
    command = _copier(copiers)
    for image in images:
        digest = image.digest or digests.resolve(image.name, image.tag, client)
        name = f"{registry}/{image.name}"
        say(f"{image.reference} -> {name}:{image.tag}")
        _run(command(f"{image.name}@{digest}", f"{name}:{image.tag}"))
        found = digests.resolve(name, image.tag, client)
        if found != digest:
            raise PlatformError(
                f"{name}:{image.tag} has the digest {found}, not {digest}",
                fix="Install crane or skopeo, and mirror again",
            )


def push(registry: str, say: Say) -> None:
    """Pushes phaseflow's own images, which `make images` built here.

    Raises PlatformError when one is not here, or the registry refuses it.
    """
    targets = json.loads(_run(["docker", "buildx", "bake", "--file", str(ROOT / "k8s" / "images.hcl"), "--print"]))
    for target in targets["target"].values():
        for own in target["tags"]:
            say(f"{own} -> {registry}/{own}")
            _run(["docker", "tag", own, f"{registry}/{own}"])
            _run(["docker", "push", "--quiet", f"{registry}/{own}"])


def _copier(allowed: Sequence[str]) -> Callable[[str, str], list[str]]:
    for name, command in COPIERS:
        if (not allowed or name in allowed) and shutil.which(name):
            return command
    raise PlatformError(
        "No program here copies images from registry to registry",
        fix="Install crane (`go install github.com/google/go-containerregistry/cmd/crane@latest`), skopeo, or Docker with buildx",
    )


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise PlatformError(
            f"`{' '.join(command)}` ended with {done.returncode}: {said[-1] if said else 'it said nothing'}",
            fix="See to what it says, then mirror again: what is there already is not copied twice",
        )
    return done.stdout
