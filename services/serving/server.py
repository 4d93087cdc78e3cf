"""What `bentoml serve` has no options for: limits of connections, and a control channel of its own user alone."""

from __future__ import annotations

import logging
import shutil
import tempfile
from typing import Any, Final

import uvicorn.config
from bentoml._internal.server.http import traffic
from bentoml._internal.utils import circus

from phaseflow import limits
from phaseflow.connections import LimitedProtocol, connection_limit

TIMEOUT_SECONDS: Final = 60.0
"""BentoML's limit of a request's time, its default. `services.serving.work` has a shorter one that stops the work too."""


def configure() -> None:
    """Configure the servers that BentoML starts later in this process."""
    LimitedProtocol.max_connections = connection_limit(limits.raise_file_limit())
    uvicorn.config.HTTP_PROTOCOLS["auto"] = "phaseflow.connections:LimitedProtocol"
    uvicorn.config.WS_PROTOCOLS["auto"] = None
    logging.getLogger("uvicorn.access").propagate = False  # without a handler, no request is formatted
    circus.create_standalone_arbiter = _private_arbiter
    traffic.TimeoutMiddleware = _timeout  # type: ignore[assignment,misc]  # BentoML only calls it


_TimeoutMiddleware: Final = traffic.TimeoutMiddleware


def _timeout(app: Any, timeout: float) -> Any:
    """Replaces BentoML's middleware, which creates a task and a timer per request that lives until the limit.

    If the limit was changed by BentoML's configuration, it is the middleware of BentoML.
    """
    return app if timeout == TIMEOUT_SECONDS else _TimeoutMiddleware(app, timeout)


def _private_arbiter(watchers: list[Any], *, threaded: bool = False, **options: Any) -> circus.Arbiter:
    """Replaces BentoML's `create_standalone_arbiter`, which opens the control channel on TCP ports.

    The channel has no password, and whoever reaches it can run commands. Here it is sockets in a folder of the user.
    """
    folder = tempfile.mkdtemp(prefix="bentoml-")
    arbiter = (circus.ThreadedArbiter if threaded else circus.Arbiter)(
        watchers,
        endpoint=f"ipc://{folder}/control",
        pubsub_endpoint=f"ipc://{folder}/events",
        check_delay=options.pop("check_delay", 1),
        **options,
    )
    arbiter.exit_stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return arbiter
