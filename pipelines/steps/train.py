"""Train one candidate: validate it within the training rows, fit it on all of them, and export ONNX."""

from __future__ import annotations

import json
import time
from pathlib import Path

from phaseflow import discovery
from phaseflow.toolkit.fit import fit
from pipelines.steps import data, selection


def train(project_name: str, snapshot: str, candidate: str, folder: Path) -> dict[str, float]:
    """Write `model.onnx`, `trained.json` and plots to `folder`.

    Returns the durations in seconds, the size in MB and the selection metric.
    """
    project = discovery.get(project_name)
    chosen = next(declared for declared in project.candidates if declared.name == candidate)
    rows = data.split(project, snapshot, "train")
    begin = time.perf_counter()
    trained = fit(rows, project, chosen)
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    chosen_by = selection.select(rows, project, chosen)
    selection_seconds = time.perf_counter() - begin
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(trained.onnx)
    # An object store has no empty folders, so the folder is only created if there are pictures.
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
    figures = {"seconds": seconds, "selection_seconds": selection_seconds, "size_mb": len(trained.onnx) / 1e6}
    return figures if chosen_by["value"] is None else figures | {f"selection_{chosen_by['metric']}": chosen_by["value"]}
