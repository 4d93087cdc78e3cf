"""`python -m services.monitor` serves the monitor on its configured port."""

from __future__ import annotations

from services.monitor.app import application
from services.monitor.serve import serve

if __name__ == "__main__":
    serve("monitor", application)
