"""The projects, one folder each; `PHASEFLOW_PROJECTS` adds folders that hold more (separated as in PATH)."""

import os

__path__ = [*__path__, *filter(None, os.environ.get("PHASEFLOW_PROJECTS", "").split(os.pathsep))]
