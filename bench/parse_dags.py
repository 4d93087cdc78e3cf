"""Measure the seconds that Airflow's DAG processor needs for the DAG folder, against a bare DAG file in the same run.

Limit: 2 s.

Like the processor, the benchmark imports Airflow once and forks for each file. Usage: .venvs/dags/bin/python
bench/parse_dags.py [rounds]
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp()
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
CEILING: Final = 2.0
BARE: Final = """
from airflow.sdk import DAG, BaseOperator
with DAG("bare") as dag:
    BaseOperator(task_id="nothing")
"""


def seconds(files: list[Path]) -> float:
    """Wall time of forked children that parse each file and serialise its DAGs, one child after the other."""
    begin = time.perf_counter()
    for file in files:
        child = os.fork()
        if child == 0:
            from airflow.dag_processing.dagbag import BundleDagBag  # noqa: PLC0415  # imported before the fork
            from airflow.serialization.serialized_objects import DagSerialization  # noqa: PLC0415  # as above

            bag = BundleDagBag(file, bundle_path=file.parent, bundle_name="bench", load_op_links=False)
            for dag in bag.dags.values():
                DagSerialization.to_dict(dag)
            os._exit(1 if bag.import_errors or not (bag.dags or file.name == "project_errors.py") else 0)
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"{file} does not parse")
    return time.perf_counter() - begin


def main(rounds: int) -> int:
    """Interleave both cases and print the medians. Returns 1 if the DAG folder exceeds the limit."""
    import airflow.dag_processing.processor  # noqa: F401, PLC0415  # shared with the forks; needs the environment variables above

    bare = Path(tempfile.mkdtemp()) / "bare.py"
    bare.write_text(BARE)
    cases = {
        "floor: a bare DAG": [bare],
        "the DAG folder": [ROOT / "dags" / name for name in ("phaseflow_dags.py", "project_errors.py")],
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, files in cases.items():
            times[name].append(seconds(files))
    medians = {name: statistics.median(values) for name, values in times.items()}
    floor = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"{name:20} {median:6.3f} s   {median / floor:5.2f} x")
    return int(medians["the DAG folder"] > CEILING)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 7))
