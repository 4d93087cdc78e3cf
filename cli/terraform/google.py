"""`python -m cli.terraform.google JSII`: arguments of the Google provider's resources that the modules use, into terraform/google.schema.json.

Where the provider itself can't be had, its modules can't be validated. The package `@cdktf/provider-google` (npm) is made from the provider's schema,
and its file `.jsii` names every argument: `npm pack @cdktf/provider-google`, then unpack `package/.jsii`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cli.terraform import hcl
from phaseflow.settings import ROOT
from phaseflow.store import write_atomic

MODULES: Final = ROOT / "terraform" / "modules" / "gcp"
SCHEMA: Final = ROOT / "terraform" / "google.schema.json"
META: Final = frozenset({"count", "for_each", "depends_on", "lifecycle", "provider"})
"""Arguments and blocks of Terraform itself."""

Arguments = dict[str, Any]
"""Arguments by name: null for a value, the arguments of its block otherwise."""


def used(folder: Path = MODULES) -> list[tuple[str, hcl.Block]]:
    """Each resource and data source of the modules, by `module: type.name`."""
    return [
        (f"{path.name}: {'.'.join(block.labels)}", block)
        for path in sorted(folder.iterdir())
        for block in hcl.blocks(path)
        if block.kind in {"resource", "data", "ephemeral"}
    ]


def problems(blocks: list[tuple[str, hcl.Block]], schema: dict[str, Arguments]) -> list[str]:
    """What the blocks have that the schema does not."""
    rows = []
    for name, block in blocks:
        key = ("data_" if block.kind == "data" else "") + block.labels[0]
        if key not in schema:
            rows.append(f"{name}: no such resource")
            continue
        for path in _paths(block.body.split("\n")):
            node: Any = schema[key]
            for part in path:
                node = node.get(part, False) if isinstance(node, dict) else False
            if node is False:
                rows.append(f"{name}: no argument {'.'.join(path)}")
    return rows


def _paths(lines: list[str]) -> Iterator[tuple[str, ...]]:
    """The path of each argument and block in a body that `terraform fmt` has written."""
    stack: list[str] = []
    """Names of the open blocks: empty for `content`, with a star for `dynamic`, whose own arguments are Terraform's."""
    depth = 0
    for line in lines:
        text = re.sub(r'"(?:\\.|[^"\\])*"', '""', line.partition("#")[0].strip())
        names = [name.rstrip("*") for name in stack if name]
        if depth:
            depth += _balance(text)
        elif match := re.match(r"(\w+) +=(?!=)", text):
            depth += _balance(text)
            if not (stack and stack[-1].endswith("*")) and {*names[:1], match[1]}.isdisjoint(META):
                yield (*names, match[1])
        elif text == "}" and stack:
            stack.pop()
        elif match := re.match(r'(?:(dynamic) ""|(\w+)) \{', text):
            name = re.findall(r'"(\w+)"', line)[0] if match[1] else match[2]
            stack.append("" if name == "content" else name + "*" * bool(match[1]))
            if name != "content" and {*names[:1], name}.isdisjoint(META):
                yield (*names, name)
            if text.endswith("}"):
                stack.pop()


def _balance(text: str) -> int:
    return sum(text.count(bracket) for bracket in "{[(") - sum(text.count(bracket) for bracket in "}])")


def extract(jsii: dict[str, Any], names: set[str]) -> dict[str, Arguments]:
    """All arguments of the named resources (`data_` before data sources), from the package's description."""
    types = jsii["types"]
    classes = {fqn.partition(".")[2].lower(): fqn for fqn in types if fqn.endswith("Config")}
    rows = {}
    for name in sorted(names):
        module = name.removeprefix("google_").replace("_", "")
        if fqn := classes.get(f"{module}.{module}config"):
            rows[name] = _arguments(types, fqn)
    return rows


def _arguments(types: dict[str, Any], fqn: str) -> Arguments:
    """The arguments of a class by name. The value is None, or for a nested block the arguments of that block."""
    rows: Arguments = {}
    for row in types[fqn].get("properties", []):
        link = re.search(r"#(\w+) ", json.dumps(row.get("docs", {})))
        if link is None:
            continue  # an argument of Terraform itself
        nested = [
            fqn
            for fqn in re.findall(r'"fqn": "([^"]+)"', json.dumps(row["type"]))
            if fqn.startswith("@cdktf/provider-google.")
        ]
        rows[link[1]] = _arguments(types, nested[0]) if nested else None
    return rows


def main() -> int:
    """Write the extract."""
    names = {("data_" if block.kind == "data" else "") + block.labels[0] for _, block in used()}
    schema = extract(json.loads(Path(sys.argv[1]).read_text()), names)
    write_atomic(SCHEMA, (json.dumps(schema, indent=1, sort_keys=True) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
