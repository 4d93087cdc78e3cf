"""`python -m services.portal`: the portal on its port of this machine."""

from __future__ import annotations

import uvicorn

from phaseflow.settings import from_environment
from services.portal.app import create


def main() -> None:
    """Serve until told to stop."""
    settings = from_environment()
    uvicorn.run(
        create(settings), host=settings.host, port=settings.port("portal"), access_log=False, server_header=False
    )


if __name__ == "__main__":
    main()
