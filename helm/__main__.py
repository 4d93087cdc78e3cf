"""`python -m helm generate [--check]`, `python -m helm lock`, `python -m helm reach`, `python -m helm mirror REGISTRY [--own]`.

generate: the charts' READMEs and schemas, the list of projects, the image lock. lock: asks the registries for every image's digest and
writes it into the charts' values, the lock and the bake file of our own images. reach: asks for every image, and prints by reference what is wrong, as JSON.
mirror: copies every image into a registry of one's own.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Final

import httpx

from helm import charts, digests, generate, images, mirror
from phaseflow.errors import PhaseflowError
from phaseflow.settings import ROOT
from phaseflow.store import write_atomic

BAKE: Final = ROOT / "k8s" / "images.hcl"


def main(arguments: list[str] | None = None) -> int:
    """Do it."""
    parser = argparse.ArgumentParser(prog="helm")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("generate").add_argument("--check", action="store_true", help="compare, write nothing")
    actions.add_parser("lock")
    asking = actions.add_parser("reach")
    asking.add_argument("--without", action="append", default=[], metavar="CHART", help="leave out what only it names")
    copying = actions.add_parser("mirror")
    copying.add_argument("registry", help="host and, if need be, a folder: registry.example.com/mirror")
    copying.add_argument("--own", action="store_true", help="phaseflow's own images too, as `make images` built them")
    copying.add_argument("--by", action="append", default=[], help="the program that copies: crane, skopeo or docker")
    told = parser.parse_args(arguments)
    try:
        match told.action:
            case "generate":
                return _generate(check=told.check)
            case "lock":
                _lock()
            case "reach":
                _reach(told.without)
            case _:
                _mirror(told.registry.rstrip("/"), own=told.own, copiers=told.by)
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _generate(*, check: bool) -> int:
    wanted = generate.files()
    old = generate.stale(wanted)
    if check:
        if old:
            print(f"error: stale: {', '.join(old)}. Run `make generate`.", file=sys.stderr)
        return 1 if old else 0
    for name in old:
        write_atomic(ROOT / name, wanted[name].encode())
    return 0


def _lock() -> None:
    found = [charts.read(name) for name in charts.names()]
    with httpx.Client(follow_redirects=True, timeout=30) as client:
        known = {}
        for image in images.gather(found):
            known[image.reference] = digests.resolve(image.name, image.tag, client)
            print(f"{image.reference} {known[image.reference]}")
        base = digests.pinned(BAKE.read_text(), client)
    for chart in found:
        images.write_digests(chart, known)
    write_atomic(BAKE, base.encode())
    _generate(check=False)


def _reach(without: list[str]) -> None:
    """An image that can be pulled by its digest or tag has no problem."""
    problems: dict[str, str] = {}
    with httpx.Client(follow_redirects=True, timeout=15) as client:
        for image in images.gather(charts.read(name) for name in charts.names() if name not in without):
            try:
                digests.resolve(image.name, image.digest or image.tag, client)
                problems[image.reference] = ""
            except PhaseflowError as error:
                problems[image.reference] = error.problem
    print(json.dumps(problems))


def _mirror(registry: str, *, own: bool, copiers: list[str]) -> None:
    found = images.gather(charts.read(name) for name in charts.names())
    with httpx.Client(follow_redirects=True, timeout=30) as client:
        mirror.copy(found, registry, client, print, copiers)
    if own:
        mirror.push(registry, print)
    print(f"Install with `--set global.images.registry={registry}`.")


if __name__ == "__main__":
    sys.exit(main())
