"""A resolver that knows no name and writes down each one that is asked for."""

from __future__ import annotations

import socket
import struct
import threading


class Resolver:
    """Answers NXDOMAIN on UDP 127.0.0.1:53 (RFC 1035); `asked` holds the names."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            self.asked.append(name_of(query))
            header = query[:2] + struct.pack(">HHHHH", 0x8183, 1, 0, 0, 0)  # a response: no such name
            end = query.index(b"\0", 12) + 5
            self._socket.sendto(header + query[12:end], client)


def name_of(query: bytes) -> str:
    """The name that a DNS query asks for."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode(errors="replace"))
        at += 1 + query[at]
    return ".".join(labels)
