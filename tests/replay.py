"""Sends the rows of a file and their labels to a project's service in a loop, as real drift that no project declares.

Runs in the project's environment: python tests/replay.py PROJECT FILE RATE. Prints a summary as JSON on SIGTERM.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from phaseflow import discovery
from phaseflow.settings import from_environment
from phaseflow.toolkit import source


def main(name: str, file: str, rate: float) -> None:
    """Replay the rows until SIGTERM."""
    project, stopped = discovery.get(name), []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    assert project.schema.target is not None
    raw = discovery.load(project.source.read)(Path(file).read_bytes())
    rows = source.conform(source.transformed(raw, project), project.schema)
    labels = rows[project.schema.target.name].to_list()
    bodies: list[dict[str, Any]] = json.loads(rows.select(project.schema.feature_names).write_json())
    sent = failed = 0
    versions: dict[str, int] = {}
    with httpx.Client(base_url=f"{from_environment().serving_url}/{name}", timeout=30) as client:
        begin = time.monotonic()
        while not stopped:
            index = sent % len(bodies)
            response = client.post("/predict", json=bodies[index])
            sent += 1
            if response.status_code != 200:
                failed += 1
                print(response.text, file=sys.stderr)
            else:
                body = response.json()
                versions[body["version"]] = versions.get(body["version"], 0) + 1
                client.post(
                    "/feedback", json={"labels": [{"id": body["predictions"][0]["id"], "label": labels[index]}]}
                )
            time.sleep(max(0.0, begin + sent / rate - time.monotonic()))  # keeps the rate
    print(json.dumps({"sent": sent, "failed": failed, "versions": versions}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
