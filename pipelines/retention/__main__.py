"""`python -m pipelines.retention clean|runs|forget --project P [--id ID] [--versions JSON] [--dry-run] [--result FILE]`.

`clean` is of the store, `runs` of the pipeline engine. Prints the result as JSON, and writes it to `--result` in a form that fits a
pod's termination message. `--versions` are the `versions` of what `python -m services.registry clean` printed; without it MLflow counts
as not asked, and what its aliases may need stays.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from phaseflow import registry
from phaseflow.errors import PhaseflowError
from phaseflow.settings import from_environment
from phaseflow.store import Store, hand_over
from pipelines.retention import runs
from pipelines.retention.clean import clean
from pipelines.retention.forget import forget


def main(arguments: list[str] | None = None) -> int:
    """Do it."""
    parser = argparse.ArgumentParser(prog="pipelines.retention")
    parser.add_argument("action", choices=("clean", "runs", "forget"))
    parser.add_argument("--project", required=True)
    parser.add_argument("--id", help="of a row, as the service answered it")
    parser.add_argument("--versions", type=json.loads, help="those that an alias of MLflow names")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--result", type=Path)
    options = parser.parse_args(arguments)
    if options.action == "forget" and not options.id:
        parser.error("forget needs --id")
    settings = from_environment()
    store = Store(settings.store)
    try:
        project = registry.get(options.project)
        result: Any
        if options.action == "forget":
            result = forget(store, project, options.id, datetime.now(UTC))
        elif options.action == "runs":
            result = runs.clean(settings, project, datetime.now(UTC), dry_run=options.dry_run)
        else:
            result = clean(store, project, options.versions, datetime.now(UTC), dry_run=options.dry_run)
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    print(json.dumps(result))
    if options.result:
        short = result if options.action == "forget" else _removed(result)
        hand_over(options.result, json.dumps(short).encode())
    return 0


def _removed(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Objects and bytes that were removed, by what they are."""
    result: dict[str, Any] = {}
    for line in lines:
        if line["remove"]:
            before = result.get(line["what"], {"count": 0, "bytes": 0})
            result[line["what"]] = {key: before[key] + line[key] for key in before}
    return result


if __name__ == "__main__":
    sys.exit(main())
