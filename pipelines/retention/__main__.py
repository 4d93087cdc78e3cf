"""`python -m pipelines.retention clean|runs|forget --project P`: remove expired data, or erase a row.

`clean` removes expired objects from the store, `runs` removes old runs from the pipeline engine, and `forget` erases a
row. The result is printed as JSON. `--result` writes a short form that fits a pod's termination message. `--versions`
takes the `versions` that `python -m services.registry clean` prints. Without it the model registry counts as unknown,
and everything that an alias may need is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from phaseflow import discovery, errors, log
from phaseflow.errors import PhaseflowError
from phaseflow.settings import from_environment
from phaseflow.store import Store, write_result
from pipelines.retention import runs
from pipelines.retention.clean import clean
from pipelines.retention.forget import forget


def main(arguments: list[str] | None = None) -> int:
    """Run the action."""
    parser = argparse.ArgumentParser(prog="pipelines.retention")
    parser.add_argument("action", choices=("clean", "runs", "forget"))
    parser.add_argument("--project", required=True)
    parser.add_argument("--id", help="ID of the row, from the service's response")
    parser.add_argument("--versions", type=json.loads, help="model versions that an MLflow alias names, as JSON")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--result", type=Path)
    options = parser.parse_args(arguments)
    if options.action == "forget" and not options.id:
        parser.error("forget needs --id")
    settings = from_environment()
    log.configure("retention", settings.log_format)
    store = Store(settings.store)
    try:
        project = discovery.get(options.project)
        result: Any
        if options.action == "forget":
            result = forget(store, project, options.id, datetime.now(UTC))
        elif options.action == "runs":
            result = runs.clean(settings, project, datetime.now(UTC), dry_run=options.dry_run)
        else:
            result = clean(store, project, options.versions, datetime.now(UTC), dry_run=options.dry_run)
    except PhaseflowError as error:
        return errors.report(error)
    print(json.dumps(result))
    if options.result:
        short = result if options.action == "forget" else _removed(result)
        write_result(options.result, json.dumps(short).encode())
    return 0


def _removed(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return counts and bytes of the removed objects by kind."""
    result: dict[str, Any] = {}
    for line in lines:
        if line["remove"]:
            before = result.get(line["what"], {"count": 0, "bytes": 0})
            result[line["what"]] = {key: before[key] + line[key] for key in before}
    return result


if __name__ == "__main__":
    sys.exit(main())
