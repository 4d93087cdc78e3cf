"""`python -m services.registry promote|rollback|versions|clean|forget --project P [--version V] [--force] [--dry-run] [--result FILE]`.

`clean` removes old versions. `forget` lists the versions that were trained on rows that have been erased since (`phaseflow forget`
erases them).

The exit status is 2 if the request is refused, with the error as the last line of stderr: a retry would not help. It is 1 if MLflow, the
store or a lock failed: a retry completes the change.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

# Read by MLflow on import: they disable telemetry, and limit the time spent on an unavailable server to seconds.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")  # its messages have the format of ours

from mlflow import MlflowClient  # after the settings above
from mlflow.exceptions import MlflowException

from phaseflow import discovery, errors, log
from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.settings import from_environment
from phaseflow.store import write_result
from services.registry import promotion, retention


def main(arguments: list[str] | None = None) -> int:
    """Run the action, and print its result as JSON."""
    parser = argparse.ArgumentParser(prog="services.registry")
    parser.add_argument("action", choices=("promote", "rollback", "versions", "clean", "forget"))
    parser.add_argument("--project", required=True)
    parser.add_argument("--version")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--dry-run", action="store_true", help="only list what `clean` would remove")
    parser.add_argument("--result", type=Path)
    args = parser.parse_args(arguments)
    settings = from_environment()
    log.configure("registry", settings.log_format)
    client = MlflowClient(settings.mlflow_url)
    try:
        project = discovery.get(args.project)
        result: object
        if args.action == "promote":
            result = promotion.promote(client, settings, project, args.version, force=args.force)
        elif args.action == "rollback":
            result = promotion.rollback(client, settings, project)
        elif args.action == "clean":
            result = retention.clean(client, settings, project, datetime.now(UTC), dry_run=args.dry_run)
        elif args.action == "forget":
            result = retention.forget(client, settings, project)
        else:
            result = promotion.versions(client, project)
    except PhaseflowError as error:
        return errors.report(error)
    except MlflowException as error:
        message = str(error).splitlines()[0][:200]
        problem = f"MLflow at {settings.mlflow_url} failed: {message}"
        return errors.report(PlatformError(problem, fix="Start it (`phaseflow up`) and retry"))
    text = json.dumps(result)
    if args.result:
        write_result(args.result, text.encode())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
