"""How BentoML's server is started on one machine."""

from __future__ import annotations

from phaseflow.settings import Settings


def command(settings: Settings) -> list[str]:
    """The command of the service of every project. Its address comes from the settings.

    An idle connection is closed after 30 s. A stop waits 20 s for requests in progress.
    """
    return [
        *(str(settings.python("serving").parent / "bentoml"), "serve", "services.serving.service:Phaseflow"),
        *("--timeout-keep-alive", "30", "--timeout-graceful-shutdown", "20"),
    ]
