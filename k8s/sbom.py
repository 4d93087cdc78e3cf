"""Write software bills of materials (CycloneDX 1.5, JSON) for the Python packages of each image and for the lock.

`python k8s/sbom.py UV OUT` writes OUT/<group>.cdx.json and OUT/lock.cdx.json. UV is the path of the uv program.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent


def export_group(uv: str, group: str) -> dict[str, Any]:
    """Export the packages of one dependency group with uv."""
    argv = [uv, "export", "--quiet", "--frozen", "--preview", "--format", "cyclonedx1.5", "--only-group", group]
    completed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if completed.returncode:
        sys.exit(
            f"error: uv can't export {group}: {completed.stderr.strip()}. Install uv {pinned()}, or correct uv.lock."
        )
    document: dict[str, Any] = json.loads(completed.stdout)
    return document


def pinned() -> str:
    """The pinned version of uv in bin/uv.txt."""
    lines = (ROOT / "bin" / "uv.txt").read_text().splitlines()
    return next(line.split()[0].removeprefix("uv==") for line in lines if line.startswith("uv=="))


def named(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Set the document's subject to `name`, and refer to packages by URLs, which are the same in all documents."""
    references = {
        component["bom-ref"]: component.get("purl", component["bom-ref"]) for component in document["components"]
    }
    subject = document["metadata"]["component"]
    references[subject["bom-ref"]] = name
    subject |= {"type": "application", "name": name, "bom-ref": name}
    for component in document["components"]:
        component["bom-ref"] = references[component["bom-ref"]]
    for dependency in document.get("dependencies", []):
        dependency["ref"] = references[dependency["ref"]]
        dependency["dependsOn"] = sorted({references[reference] for reference in dependency.get("dependsOn", [])})
    return document


def merged(documents: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Merge the packages of all documents into one."""
    components = {component["bom-ref"]: component for document in documents for component in document["components"]}
    needs: dict[str, set[str]] = {}
    for document in documents:
        subject = document["metadata"]["component"]["bom-ref"]
        for dependency in document.get("dependencies", []):
            reference = name if dependency["ref"] == subject else dependency["ref"]
            needs.setdefault(reference, set()).update(dependency["dependsOn"])
    first = documents[0]
    metadata = first["metadata"] | {"component": first["metadata"]["component"] | {"name": name, "bom-ref": name}}
    return {key: value for key, value in first.items() if key != "serialNumber"} | {
        "metadata": metadata,
        "components": [components[reference] for reference in sorted(components)],
        "dependencies": [{"ref": reference, "dependsOn": sorted(needs[reference])} for reference in sorted(needs)],
    }


def main(uv: str, out: Path) -> None:
    """Write all documents."""
    groups = sorted(tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"])
    documents = [named(export_group(uv, group), f"phaseflow/{group}") for group in groups]
    out.mkdir(parents=True, exist_ok=True)
    for group, document in zip([*groups, "lock"], [*documents, merged(documents, "phaseflow")], strict=True):
        (out / f"{group}.cdx.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
