"""One candidate: compare it inside the snapshot's training rows, fit it on all of them, hand on ONNX."""

from __future__ import annotations

import json
import time
from pathlib import Path

from phaseflow import registry
from phaseflow.toolkit.fit import fit
from pipelines.steps import data, selection


def train(project_name: str, snapshot: str, candidate: str, folder: Path) -> dict[str, float]:
    """Write `model.onnx`, `trained.json` and pictures to `folder`; answer with seconds, size in MB and the figure of selection."""
    project = registry.get(project_name)
    chosen = next(one for one in project.candidates if one.name == candidate)
    rows = data.split(project, snapshot, "train")
    begin = time.perf_counter()
    trained = fit(rows, project, chosen)
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    chosen_by = selection.select(rows, project, chosen)
    selection_seconds = time.perf_counter() - begin
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(trained.onnx)
    # An object store has no empty folder: without a picture there is none here either.
    for name, content in trained.pictures.items():
        (folder / "pictures").mkdir(exist_ok=True)
        (folder / "pictures" / name).write_bytes(content)
    about = {
        "candidate": candidate,
        "params": dict(chosen.params),
        "classes": list(trained.classes),
        "notes": dict(trained.notes),
        "seconds": seconds,
        "rows": rows.height,
        "selection": chosen_by | {"seconds": selection_seconds},
    }
    (folder / "trained.json").write_text(json.dumps(about))
    print(f"{candidate}: {rows.height} rows, {seconds:.2f} s, {len(trained.onnx) / 1e6:.2f} MB")
    found = {"seconds": seconds, "selection_seconds": selection_seconds, "size_mb": len(trained.onnx) / 1e6}
    return found if chosen_by["value"] is None else found | {f"selection_{chosen_by['metric']}": chosen_by["value"]}
