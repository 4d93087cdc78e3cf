"""`python -m pipelines.engine.execute FOLDER`: run the pipeline of a run folder with `kfp.local`.

It runs in the interpreter of the pipeline's environment. It reads `pipeline.yaml` and `parameters.json`, and writes
`outcome.json` atomically at the end.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

from kfp import components, local  # noqa: E402  # kfp warns while it is imported

from phaseflow import log  # noqa: E402
from phaseflow.clients.kfp import FAILED, SUCCEEDED  # noqa: E402
from phaseflow.log import logger  # noqa: E402
from phaseflow.settings import from_environment  # noqa: E402
from phaseflow.store import write_atomic  # noqa: E402


def main(folder: Path) -> int:
    """Run the pipeline and write its outcome."""
    log.configure("pipelines.execute", from_environment().log_format)
    outcome = {"state": SUCCEEDED, "error": ""}
    try:
        # Steps run with this interpreter, which corresponds to the environment's image on a cluster.
        local.init(
            runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "artifacts"), raise_on_error=True
        )
        pipeline = components.load_component_from_file(str(folder / "pipeline.yaml"))
        pipeline(**json.loads((folder / "parameters.json").read_text()))
    except Exception as error:  # any error of a step is the run's outcome
        logger.exception("the pipeline failed")
        outcome = {"state": FAILED, "error": f"{type(error).__name__}: {error}"}
    write_atomic(folder / "outcome.json", json.dumps(outcome).encode())
    return 0 if outcome["state"] == SUCCEEDED else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
