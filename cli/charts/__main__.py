"""`python -m cli.charts generate [--check] | lock | reach | mirror REGISTRY [--own]`: maintain the Helm charts.

generate: write the charts' READMEs and schemas, the list of projects and the image lock. lock: resolve the digest of
every image, and write it to the charts' values, the lock and the bake file of phaseflow's own images. reach: check that
every image can be pulled and is built for the architectures of the nodes, and print a JSON object of reference and
problem. mirror: copy every image to a private registry.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Final

import httpx

from cli.charts import charts, digests, generate, images, mirror
from phaseflow import generated
from phaseflow.errors import PhaseflowError
from phaseflow.settings import ROOT
from phaseflow.store import write_atomic

BAKE: Final = ROOT / "k8s" / "images.hcl"


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="cli.charts")
    subparsers = parser.add_subparsers(dest="action", required=True)
    subparsers.add_parser("generate").add_argument(
        "--check", action="store_true", help="write nothing; exit with status 1 if a file is stale"
    )
    subparsers.add_parser("lock")
    reach_parser = subparsers.add_parser("reach")
    reach_parser.add_argument(
        "--without", action="append", default=[], metavar="CHART", help="skip images that only this chart uses"
    )
    reach_parser.add_argument(
        "--values", action="append", default=[], type=Path, help="file of values over the charts'"
    )
    reach_parser.add_argument(
        "--architecture",
        action="append",
        default=[],
        help="architecture of a node, such as arm64, that every image needs",
    )
    mirror_parser = subparsers.add_parser("mirror")
    mirror_parser.add_argument(
        "registry", help="host of the registry, with an optional path: registry.example.com/mirror"
    )
    mirror_parser.add_argument(
        "--own", action="store_true", help="also push phaseflow's own images, which `make images` builds"
    )
    mirror_parser.add_argument(
        "--by", action="append", default=[], help="program that may copy the images: crane, skopeo or docker"
    )
    args = parser.parse_args(arguments)
    try:
        match args.action:
            case "generate":
                return _generate(check=args.check)
            case "lock":
                _lock()
            case "reach":
                _reach(args.without, args.values, frozenset(args.architecture))
            case _:
                _mirror(args.registry.rstrip("/"), own=args.own, copiers=args.by)
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _generate(*, check: bool) -> int:
    contents = generate.files()
    stale = generated.stale(ROOT, contents, whole=False)
    if check:
        if stale:
            print(f"error: stale: {', '.join(stale)}. Run `make generate`.", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        write_atomic(ROOT / name, contents[name].encode())
    return 0


def _lock() -> None:
    all_charts = [charts.read(name) for name in charts.names()]
    with httpx.Client(follow_redirects=True, timeout=30) as client:
        digest_by_reference = {}
        for image in images.gather(all_charts):
            digest_by_reference[image.reference] = digests.resolve(image.name, image.tag, client)
            print(f"{image.reference} {digest_by_reference[image.reference]}")
        base = digests.pinned(BAKE.read_text(), client)
    for chart in all_charts:
        images.write_digests(chart, digest_by_reference)
    write_atomic(BAKE, base.encode())
    _generate(check=False)


def _reach(without: list[str], values: list[Path], architectures: frozenset[str]) -> None:
    """Print the problem of each image as JSON; the empty string for images that can be pulled."""
    all_charts = [charts.read(name) for name in charts.names() if name not in without]
    for path in values:
        all_charts = [images.with_values(chart, charts.load(path)) for chart in all_charts]
    with httpx.Client(follow_redirects=True, timeout=15) as client:
        problems = {image.reference: _problem(image, architectures, client) for image in images.gather(all_charts)}
    print(json.dumps(problems))


def _problem(image: images.Image, architectures: frozenset[str], client: httpx.Client) -> str:
    """Why nodes of these architectures can't run the image; empty if they can."""
    try:
        built_for = digests.architectures(image.name, image.digest or image.tag, client)
    except PhaseflowError as error:
        return error.problem
    missing = ", ".join(sorted(architectures - built_for))
    return f"It has no build for {missing}, only for {', '.join(sorted(built_for))}" if missing else ""


def _mirror(registry: str, *, own: bool, copiers: list[str]) -> None:
    third_party = images.gather(charts.read(name) for name in charts.names())
    with httpx.Client(follow_redirects=True, timeout=30) as client:
        mirror.copy(third_party, registry, client, print, copiers)
    sets = [f"global.images.mirror={registry}"]
    if own:
        mirror.push(registry, print)
        sets += [f"global.images.registry={registry}"]
        sets += [f"global.images.tag={tag}"] if (tag := os.environ.get("TAG")) else []
    print(f"Install with `--set {','.join(sets)}`.")


if __name__ == "__main__":
    sys.exit(main())
