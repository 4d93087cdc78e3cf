"""A DNS resolver that knows no names and records every query."""

from __future__ import annotations

import socket
import struct
import threading


class Resolver:
    """Responds with NXDOMAIN on UDP 127.0.0.1:53 (RFC 1035); `names` are the queried names."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            self.names.append(name_of(query))
            header = query[:2] + struct.pack(">HHHHH", 0x8183, 1, 0, 0, 0)  # a response: no such name
            question_end = query.index(b"\0", 12) + 5
            self._socket.sendto(header + query[12:question_end], client)


def name_of(query: bytes) -> str:
    """Return the name in a DNS query."""
    labels, offset = [], 12
    while query[offset]:
        labels.append(query[offset + 1 : offset + 1 + query[offset]].decode(errors="replace"))
        offset += 1 + query[offset]
    return ".".join(labels)
