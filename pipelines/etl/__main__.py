"""`python -m pipelines.etl extract|validate|snapshot --project P --run R --result FILE`: one step, its result as JSON.

Ends with 2 and the error as the last line of stderr where the data or the declaration is wrong: another try would not help. Ends with 1
where the store, the disk or the network failed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from phaseflow import registry
from phaseflow.errors import PhaseflowError
from phaseflow.settings import from_environment
from phaseflow.store import Store, hand_over


def main(arguments: list[str] | None = None) -> int:
    """Run one step."""
    parser = argparse.ArgumentParser(prog="pipelines.etl")
    parser.add_argument("step", choices=("extract", "validate", "snapshot"))
    parser.add_argument("--project", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--result", type=Path, required=True)
    told = parser.parse_args(arguments)
    settings = from_environment()
    store = Store(settings.store)
    staging = f"staging/{told.project}/{told.run}"
    # Each step imports its own library and no other's.
    try:
        project = registry.get(told.project)
        if told.step == "extract":
            from pipelines.etl.extract import extract  # noqa: PLC0415

            result = extract(project, told.run, settings, store)
            store.write(f"{staging}/extract.json", json.dumps(result).encode())
        elif told.step == "validate":
            from pipelines.etl.validate import validate  # noqa: PLC0415

            result = validate(project, told.run, store)
        else:
            from pipelines.etl.snapshot import snapshot  # noqa: PLC0415

            result = snapshot(project, told.run, store, json.loads(store.read(f"{staging}/extract.json")))
        hand_over(told.result, json.dumps(result).encode())
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
