"""The projects, one folder each. The setting `PHASEFLOW_PROJECTS` adds folders with more of them, separated as in PATH."""

from phaseflow.settings import from_environment

__path__ = [*__path__, *(str(folder) for folder in from_environment().projects[1:])]
