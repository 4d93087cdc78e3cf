"""Constants of the demo."""

from __future__ import annotations

from typing import Final

DEFAULT_PROJECT: Final = "titanic"
"""It is small, and its model is trained in seconds."""
NORMAL_SECONDS: Final = 10.0
"""Duration of the traffic without drift. It takes longer if the evaluation of drift needs more rows."""
RATE: Final = 40.0
"""Maximum rows per second. At this rate, the newest 300 training labels are drifted rows when the alert has fired and
Airflow takes its snapshot. They become the next version's reference."""
WAIT_SECONDS: Final = 240.0
"""Timeout of each wait except for a training. None takes a quarter of it on two cores."""
TRAINING_SECONDS: Final = 1800.0
RETRAININGS: Final = 3
"""Maximum retrainings until the champion is replaced or confirmed. The first may have too few drifted rows."""
POLL_SECONDS: Final = 0.5
MEMORY_SECONDS: Final = 5.0
"""Interval at which the memory of all processes is measured."""
