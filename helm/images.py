"""The third-party images of the charts, and the files that list them.

values.yaml is where an image is named; the lock gathers them all, for a mirror and for whoever must read what is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from helm import charts
from helm.charts import Chart
from phaseflow.errors import ContractError

LOCK_HEADER: Final = """\
# Every third-party image of the charts: the digest of its index of all architectures, and the values that name it.
# Made from the charts' values by `make generate`. A digest that is null is not known yet: `make lock-images` asks each image's registry,
# and writes it here and into the values.
"""
STANDINS_HEADER: Final = """\
# For a cluster that can't pull: stand-ins have the upstream names and tags, but other digests. Made by `make generate`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image, as often as it is named."""

    name: str
    tag: str
    digest: str
    """`sha256:` and 64 digits; empty where it is not known yet."""
    values: tuple[str, ...]
    """`<chart>: <path>` of each map that names it."""

    @property
    def reference(self) -> str:
        """Name and tag."""
        return f"{self.name}:{self.tag}"


def gather(found: Iterable[Chart]) -> tuple[Image, ...]:
    """The charts' images, by name.

    Raises ContractError when two charts name an image by different tags or digests.
    """
    images: dict[str, Image] = {}
    for chart in found:
        for path, image in charts.images(chart.values):
            place = f"{chart.name}: {'.'.join(path)}"
            name, tag, digest = (str(image[key]) for key in ("repository", "tag", "digest"))
            known = images.get(name)
            if known and (known.tag, known.digest) != (tag, digest):
                raise ContractError(
                    f"{place} names {name}:{tag} by another tag or digest than {', '.join(known.values)}",
                    fix="Give all of them the same",
                )
            images[name] = Image(name=name, tag=tag, digest=digest, values=(*(known.values if known else ()), place))
    return tuple(images[name] for name in sorted(images))


def lock(images: Iterable[Image]) -> str:
    """helm/images.lock.yaml."""
    rows = [
        {"name": image.name, "tag": image.tag, "digest": image.digest or None, "values": list(image.values)}
        for image in images
    ]
    return LOCK_HEADER + str(yaml.safe_dump({"images": rows}, sort_keys=False, width=1000))


def standins(found: Iterable[Chart]) -> str:
    """The umbrella's values that ask for no digest."""
    cleared: dict[str, Any] = {}
    for chart in found:
        root = () if chart.parts else (chart.name,)
        for path, _ in charts.images(chart.values):
            _put(cleared, (*root, *path, "digest"), "")
    return STANDINS_HEADER + str(yaml.safe_dump(cleared, width=1000))


def write_digests(chart: Chart, digests: Mapping[str, str]) -> None:
    """Writes the digests of the images (`name:tag` -> digest) into the chart's values.yaml, and changes nothing else."""
    path = chart.folder / "values.yaml"
    values = charts.load(path)
    for _, image in charts.images(values):
        image["digest"] = digests[f"{image['repository']}:{image['tag']}"]  # type: ignore[index]  # loaded to be written
    with path.open("w") as file:
        charts.yaml().dump(values, file)


def _put(tree: dict[str, Any], path: tuple[str, ...], value: str) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value
