"""Third-party images of the charts, and the files that list them.

Each image is specified in a values.yaml. The lock lists all images, for mirrors and for audits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import yaml

from cli.charts import charts
from cli.charts.charts import Chart
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
    """One image, with all values that specify it."""

    name: str
    tag: str
    digest: str
    """`sha256:` and 64 hexadecimal digits; empty if unknown."""
    values: tuple[str, ...]
    """`<chart>: <path>` of each map that specifies the image."""

    @property
    def reference(self) -> str:
        """Name and tag, as `name:tag`."""
        return f"{self.name}:{self.tag}"


def with_values(chart: Chart, values: Mapping[str, Any]) -> Chart:
    """The chart with values of the umbrella chart over its own."""
    return replace(chart, values=_merged(chart.values, values if chart.parts else values.get(chart.name, {})))


def gather(all_charts: Iterable[Chart]) -> tuple[Image, ...]:
    """The images of the charts, sorted by name.

    Raises ContractError if two values specify different tags or digests of one image.
    """
    images: dict[str, Image] = {}
    for chart in all_charts:
        for path, image in charts.images(chart.values):
            source = f"{chart.name}: {'.'.join(path)}"
            name, tag, digest = (str(image[key]) for key in ("repository", "tag", "digest"))
            previous = images.get(name)
            if previous and (previous.tag, previous.digest) != (tag, digest):
                raise ContractError(
                    f"{source} has another tag or digest of {name} than {', '.join(previous.values)}: {tag}",
                    fix="Use one tag and one digest in all of them",
                )
            images[name] = Image(
                name=name, tag=tag, digest=digest, values=(*(previous.values if previous else ()), source)
            )
    return tuple(images[name] for name in sorted(images))


def lock(images: Iterable[Image]) -> str:
    """The content of helm/images.lock.yaml."""
    rows = [
        {"name": image.name, "tag": image.tag, "digest": image.digest or None, "values": list(image.values)}
        for image in images
    ]
    return LOCK_HEADER + str(yaml.safe_dump({"images": rows}, sort_keys=False, width=1000))


def standins(all_charts: Iterable[Chart]) -> str:
    """Values of the umbrella chart that clear every digest."""
    cleared: dict[str, Any] = {}
    for chart in all_charts:
        root = () if chart.parts else (chart.name,)
        for path, _ in charts.images(chart.values):
            _put(cleared, (*root, *path, "digest"), "")
    return STANDINS_HEADER + str(yaml.safe_dump(cleared, width=1000))


def write_digests(chart: Chart, digests: Mapping[str, str]) -> None:
    """Write the digests of the images (`name:tag` -> digest) to the chart's values.yaml, and change nothing else."""
    path = chart.folder / "values.yaml"
    values = charts.load(path)
    for _, image in charts.images(values):
        image["digest"] = digests[f"{image['repository']}:{image['tag']}"]  # type: ignore[index]  # a mutable map, from `charts.load`
    with path.open("w") as file:
        charts.yaml().dump(values, file)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    nested = {key: _merged(base[key], value) for key, value in over.items() if isinstance(base.get(key), Mapping)}
    return {**base, **over, **nested}


def _put(tree: dict[str, Any], path: tuple[str, ...], value: str) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value
