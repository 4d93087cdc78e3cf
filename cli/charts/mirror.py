"""Copy the images, with all architectures and the same digests, to a private registry for offline clusters."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import httpx

from cli.charts import digests
from cli.charts.images import Image
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
"""Programs that copy an image between registries, in order of preference."""
Say = Callable[[str], None]


def copy(images: Iterable[Image], registry: str, client: httpx.Client, say: Say, copiers: Sequence[str] = ()) -> None:
    """Copy each image to `<registry>/<full name>:<tag>`, where the charts find it with `global.images.mirror`.

    `copiers` are the names of the allowed programs; if empty, all are allowed. Raises PlatformError if no program is
    installed, a copy fails or a copy has another digest.
    """
    command = _copier(copiers)
    for image in images:
        digest = image.digest or digests.resolve(image.name, image.tag, client)
        name = f"{registry}/{image.name}"
        say(f"{image.reference} -> {name}:{image.tag}")
        _run(command(f"{image.name}@{digest}", f"{name}:{image.tag}"))
        copied_digest = digests.resolve(name, image.tag, client)
        if copied_digest != digest:
            raise PlatformError(
                f"{name}:{image.tag} has the digest {copied_digest}, not {digest}",
                fix="Install crane or skopeo, then run the command again",
            )


def push(registry: str, say: Say) -> None:
    """Push phaseflow's own images, which `make images` built on this machine with the same variable TAG.

    Raises PlatformError if an image is missing or the registry refuses it.
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
        "No program that copies images between registries is installed",
        fix="Install crane (`go install github.com/google/go-containerregistry/cmd/crane@latest`), skopeo, or Docker with buildx",
    )


def _run(command: list[str]) -> str:
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode:
        output_lines = (completed.stderr or completed.stdout).strip().splitlines()
        raise PlatformError(
            f"`{' '.join(command)}` ended with {completed.returncode}: {output_lines[-1] if output_lines else 'no output'}",
            fix="See to what it says, then mirror again: what is there already is not copied twice",
        )
    return completed.stdout
