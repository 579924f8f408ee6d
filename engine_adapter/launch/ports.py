"""Loopback ports for workers, below the range from which the kernel takes ports for outgoing connections."""

from __future__ import annotations

import socket
from collections.abc import Collection


class NoFreePortError(OSError):
    """Every port in the searched range is taken."""


def is_free(host: str, port: int) -> bool:
    """Could a server bind this port now?"""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def first_free_port(host: str, base: int, avoid: Collection[int] = (), span: int = 2000) -> int:
    """The first free port from `base` that is not in `avoid`."""
    for port in range(base, min(base + span, 65536)):
        if port not in avoid and is_free(host, port):
            return port
    raise NoFreePortError(f"no free port on {host} from {base} to {base + span - 1}: set engine.port_base")
