"""Measure the overhead of orchestration: a pipeline step against its function, and an Airflow task against its command.

Usage, on a running platform, in the environment `pipelines`: python bench/orchestration.py [rounds]
"""

# KFP reads the annotations of the component below, so they must be classes, not strings.
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

from phaseflow.clients import kfp
from phaseflow.settings import ROOT, Settings, from_environment

STEPS = 6
TASKS = ("extract", "validate", "snapshot")


def nothing() -> str:
    """The function of a pipeline step."""
    return "done"


def specification(steps: int) -> Any:
    """The specification of a pipeline with this number of sequential steps."""
    component = dsl.component(base_image="none", install_kfp_package=False)(nothing)

    def chain() -> None:
        previous: Any = None
        for _ in range(steps):
            task = component().set_caching_options(enable_caching=False)
            if previous is not None:
                task.after(previous)
            previous = task

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "chain.yaml")
        compiler.Compiler().compile(dsl.pipeline(name=f"chain-{steps}")(chain), path)
        return yaml.safe_load(Path(path).read_text())


def pipeline_seconds(settings: Settings, spec: Any) -> float:
    """Wall time of one run, by the timestamps of the API."""
    token = settings.bearer("engine_token")
    with httpx.Client(base_url=f"{settings.pipelines_url}{kfp.API}", timeout=30, headers=token) as client:
        run = client.post("/runs", json={"display_name": "bench", "pipeline_spec": spec}).raise_for_status().json()
        while run["state"] not in kfp.ENDED:
            time.sleep(0.05)  # polling interval
            run = client.get(f"/runs/{run['run_id']}").json()
    if run["state"] != kfp.SUCCEEDED:
        raise SystemExit(run["error"]["message"])
    return (datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["created_at"])).total_seconds()


def command_seconds(settings: Settings, step: str) -> float:
    """Wall time of the task's command without Airflow."""
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
    """Seconds of each task in one DAG run, from the end of its predecessor to its own end.

    The first task counts from the start of the run.
    """
    completed = subprocess.run(
        [ROOT / "bin" / "phaseflow", "trigger", "titanic", "--wait", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    dag_run = json.loads(completed.stdout)
    tasks = {task["task"]: task for task in dag_run["tasks"]}
    previous_end, seconds = dag_run["start"], {}
    for name in TASKS:
        seconds[name] = (
            datetime.fromisoformat(tasks[name]["end"]) - datetime.fromisoformat(previous_end)
        ).total_seconds()
        previous_end = tasks[name]["end"]
    return seconds


def main(rounds: int) -> None:
    """Measure and print the medians."""
    settings = from_environment()
    single_step, chain = specification(1), specification(STEPS)
    begin = time.perf_counter()
    for _ in range(1000):
        nothing()
    floor = (time.perf_counter() - begin) / 1000
    runs = [(pipeline_seconds(settings, single_step), pipeline_seconds(settings, chain)) for _ in range(rounds)]
    run_seconds = statistics.median(single_seconds for single_seconds, _ in runs)
    step = statistics.median((chain_seconds - single_seconds) / (STEPS - 1) for single_seconds, chain_seconds in runs)
    print(
        f"overhead of a pipeline step: {step:.3f} s (its function takes {floor * 1e6:.1f} µs); a run of one step: {run_seconds:.2f} s"
    )
    costs = []
    for _ in range(rounds):
        tasks = task_seconds()
        commands = {name: command_seconds(settings, name) for name in TASKS}
        costs.append({name: tasks[name] - commands[name] for name in TASKS})
        print("  " + ", ".join(f"{n} {tasks[n]:.2f} s in Airflow, {commands[n]:.2f} s for the command" for n in TASKS))
    cost = statistics.median(value for round_ in costs for value in round_.values())
    print(
        f"overhead of an Airflow task: {cost:.2f} s, including scheduling and process start (median of {len(costs) * len(TASKS)})"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
