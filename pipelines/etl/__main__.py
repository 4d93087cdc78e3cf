"""`python -m pipelines.etl extract|validate|snapshot --project P --run R --result FILE`: run one step.

The result is written to FILE as JSON. Exits with 2 if the data or the declaration is wrong, so that a retry would not
help, and with 1 if the store, the disk or the network failed. The last line of stderr is the error.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from phaseflow import discovery, errors, log
from phaseflow.errors import PhaseflowError
from phaseflow.settings import from_environment
from phaseflow.store import Store, write_result


def main(arguments: list[str] | None = None) -> int:
    """Run one step."""
    parser = argparse.ArgumentParser(prog="pipelines.etl")
    parser.add_argument("step", choices=("extract", "validate", "snapshot"))
    parser.add_argument("--project", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--result", type=Path, required=True)
    args = parser.parse_args(arguments)
    settings = from_environment()
    log.configure("etl", settings.log_format)
    store = Store(settings.store)
    staging = f"staging/{args.project}/{args.run}"
    # Each step imports only its own libraries.
    try:
        project = discovery.get(args.project)
        if args.step == "extract":
            from pipelines.etl.extract import extract  # noqa: PLC0415

            result = extract(project, args.run, settings, store)
            store.write(f"{staging}/extract.json", json.dumps(result).encode())
        elif args.step == "validate":
            from pipelines.etl.validate import validate  # noqa: PLC0415

            result = validate(project, args.run, store)
        else:
            from pipelines.etl.snapshot import snapshot  # noqa: PLC0415

            result = snapshot(project, args.run, store, json.loads(store.read(f"{staging}/extract.json")))
        write_result(args.result, json.dumps(result).encode())
    except PhaseflowError as error:
        return errors.report(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
