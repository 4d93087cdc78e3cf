"""Sends the rows of a file to a project's service, over and over, and the truth of each: a world that nobody declared.

Runs in the project's family: python tests/play.py PROJECT FILE RATE. Prints what came of it when it is told to stop.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from phaseflow import registry
from phaseflow.settings import from_environment
from phaseflow.toolkit import source


def main(name: str, file: str, rate: float) -> None:
    """Play until told to stop."""
    project, stopped = registry.get(name), []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    assert project.schema.target is not None
    raw = registry.load(project.source.read)(Path(file).read_bytes())
    rows = source.conform(source.transformed(raw, project), project.schema)
    truths = rows[project.schema.target.name].to_list()
    bodies: list[dict[str, Any]] = json.loads(rows.select(project.schema.feature_names).write_json())
    sent = failed = 0
    versions: dict[str, int] = {}
    with httpx.Client(base_url=f"{from_environment().serving_url}/{name}", timeout=30) as client:
        begin = time.monotonic()
        while not stopped:
            place = sent % len(bodies)
            answer = client.post("/predict", json=bodies[place])
            sent += 1
            if answer.status_code != 200:
                failed += 1
                print(answer.text, file=sys.stderr)
            else:
                said = answer.json()
                versions[said["version"]] = versions.get(said["version"], 0) + 1
                client.post(
                    "/feedback", json={"truths": [{"id": said["predictions"][0]["id"], "truth": truths[place]}]}
                )
            time.sleep(max(0.0, begin + sent / rate - time.monotonic()))  # the rate
    print(json.dumps({"sent": sent, "failed": failed, "versions": versions}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
