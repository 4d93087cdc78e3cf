"""The limit of open files, tested in a separate process."""

from __future__ import annotations

import subprocess
import sys

from phaseflow.limits import MAX_FILES
from phaseflow.settings import ROOT

CODE = """
import resource
from phaseflow.limits import raise_file_limit
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
first, second = raise_file_limit(), raise_file_limit()
print(first, second, resource.getrlimit(resource.RLIMIT_NOFILE)[0], hard)
"""


def test_a_process_may_open_as_many_files_as_the_system_allows() -> None:
    completed = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    first, second, soft, hard = map(int, completed.stdout.split())
    assert first == second == soft
    assert soft == (MAX_FILES if hard < 0 else min(hard, MAX_FILES))
