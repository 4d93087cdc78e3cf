"""`python -m services.registry promote|rollback|versions|clean|forget --project P [--version V] [--force] [--dry-run] [--result FILE]`.

`clean` removes old versions, `forget` gives the versions that were trained on rows erased since (`phaseflow forget` erases them).

Ends with 2 and the error as the last line of stderr where the request is refused: another try would not help. Ends with 1 where MLflow,
the store or a lock failed; done again, it changes what is still to be changed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

# Read by mlflow when it is imported: nothing is sent to anyone, and a server that is away is given up in seconds.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow import MlflowClient  # after the settings above
from mlflow.exceptions import MlflowException

from phaseflow import registry
from phaseflow.errors import PhaseflowError
from phaseflow.settings import from_environment
from phaseflow.store import hand_over
from services.registry import promotion, retention


def main(arguments: list[str] | None = None) -> int:
    """Do it, and print the result as JSON."""
    parser = argparse.ArgumentParser(prog="services.registry")
    parser.add_argument("action", choices=("promote", "rollback", "versions", "clean", "forget"))
    parser.add_argument("--project", required=True)
    parser.add_argument("--version")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--dry-run", action="store_true", help="`clean`: only say what would go")
    parser.add_argument("--result", type=Path)
    told = parser.parse_args(arguments)
    settings = from_environment()
    client = MlflowClient(settings.mlflow_url)
    try:
        project = registry.get(told.project)
        result: object
        if told.action == "promote":
            result = promotion.promote(client, settings, project, told.version, force=told.force)
        elif told.action == "rollback":
            result = promotion.rollback(client, settings, project)
        elif told.action == "clean":
            result = retention.clean(client, settings, project, datetime.now(UTC), dry_run=told.dry_run)
        elif told.action == "forget":
            result = retention.forget(client, settings, project)
        else:
            result = promotion.versions(client, project)
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except MlflowException as error:
        said = str(error).splitlines()[0][:200]
        print(
            f"error: MLflow at {settings.mlflow_url} failed: {said}. Start it (`phaseflow up`) and retry.",
            file=sys.stderr,
        )
        return 1
    text = json.dumps(result)
    if told.result:
        hand_over(told.result, text.encode())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
