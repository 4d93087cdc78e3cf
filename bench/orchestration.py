"""What orchestration costs, beside its floor in the same run: a pipeline step over its function, an Airflow task over its command.

Usage, while the platform is up, in the environment `pipelines`: python bench/orchestration.py [rounds]
"""

# Annotations must be real classes here: KFP reads those of the component below.
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import yaml
from kfp import compiler, dsl

from phaseflow.settings import ROOT, Settings, from_environment

STEPS = 6
TASKS = ("extract", "validate", "snapshot")


def nothing() -> str:
    """A step's function."""
    return "done"


def specification(steps: int) -> Any:
    """A pipeline of so many steps one after the other."""
    component = dsl.component(base_image="none", install_kfp_package=False)(nothing)

    def chain() -> None:
        before: Any = None
        for _ in range(steps):
            task = component().set_caching_options(enable_caching=False)
            if before is not None:
                task.after(before)
            before = task

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "chain.yaml")
        compiler.Compiler().compile(dsl.pipeline(name=f"chain-{steps}")(chain), path)
        return yaml.safe_load(Path(path).read_text())


def pipeline_seconds(settings: Settings, spec: Any) -> float:
    """Wall time of one run, as the API tells it."""
    token = settings.bearer("engine_token")
    with httpx.Client(base_url=f"{settings.pipelines_url}/apis/v2beta1", timeout=30, headers=token) as client:
        run = client.post("/runs", json={"display_name": "bench", "pipeline_spec": spec}).raise_for_status().json()
        while run["state"] not in {"SUCCEEDED", "FAILED"}:
            time.sleep(0.05)  # the interval of polling
            run = client.get(f"/runs/{run['run_id']}").json()
    if run["state"] == "FAILED":
        raise SystemExit(run["error"]["message"])
    return (datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["created_at"])).total_seconds()


def command_seconds(settings: Settings, step: str) -> float:
    """Wall time of the task's own command."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--project", "titanic", "--run", "bench", "--result", f"{folder}/result.json"]
        subprocess.run(
            [settings.python("tabular"), "-m", "pipelines.etl", step, *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=True,
            stderr=subprocess.DEVNULL,
        )
    return time.perf_counter() - begin


def task_seconds() -> dict[str, float]:
    """Of one DAG run, from a task's predecessor's end (the run's start for the first) to its own end."""
    done = subprocess.run(
        [ROOT / "bin" / "phaseflow", "trigger", "titanic", "--wait", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    ends = {task["task"]: task for task in found["tasks"]}
    before, seconds = found["start"], {}
    for name in TASKS:
        seconds[name] = (datetime.fromisoformat(ends[name]["end"]) - datetime.fromisoformat(before)).total_seconds()
        before = ends[name]["end"]
    return seconds


def main(rounds: int) -> None:
    """Print medians."""
    settings = from_environment()
    one, many = specification(1), specification(STEPS)
    begin = time.perf_counter()
    for _ in range(1000):
        nothing()
    floor = (time.perf_counter() - begin) / 1000
    runs = [(pipeline_seconds(settings, one), pipeline_seconds(settings, many)) for _ in range(rounds)]
    step = statistics.median((b - a) / (STEPS - 1) for a, b in runs)
    print(
        f"a pipeline step: {step:.3f} s over its function ({floor * 1e6:.1f} µs); a run of one step: {statistics.median(a for a, _ in runs):.2f} s"
    )
    costs = []
    for _ in range(rounds):
        tasks = task_seconds()
        commands = {name: command_seconds(settings, name) for name in TASKS}
        costs.append({name: tasks[name] - commands[name] for name in TASKS})
        print("  " + ", ".join(f"{n} {tasks[n]:.2f} s in Airflow, {commands[n]:.2f} s alone" for n in TASKS))
    cost = statistics.median(value for round_ in costs for value in round_.values())
    print(
        f"an Airflow task: {cost:.2f} s over its command, scheduling and process start included (median of {len(costs) * len(TASKS)})"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
