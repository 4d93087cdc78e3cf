"""For all tests: CA certificates are read once per process."""

from __future__ import annotations

import functools
import ssl

# httpx reads them for every client, and for every request without a client: 30 ms of processor time for each poll of a
# service that starts. All of them get the same context, which no test changes.
ssl.create_default_context = functools.cache(ssl.create_default_context)
