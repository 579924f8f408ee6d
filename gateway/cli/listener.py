"""The socket that clients connect to. It is bound before anything slow starts, so that a taken port shows."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from pathlib import Path

from engine_adapter.launch.ports import port_owner


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where the gateway listens."""

    host: str = "127.0.0.1"
    """Address to listen on. One that other machines can reach demands API keys."""
    port: int = 8080
    """0 takes any free port."""
    processes: int = 1
    """Gateway processes that share the port."""
    backlog: int = 2048
    """Connections the kernel holds until a process accepts them."""
    tls_cert: Path | None = None
    """PEM file with the certificate chain; with it the gateway speaks HTTPS."""
    tls_key: Path | None = None
    """PEM file with the certificate's private key."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must lie in 0..65535, got {self.port}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: give both or neither")
        if self.processes < 1:
            raise ValueError(f"processes must be at least 1, got {self.processes}")
        if self.backlog < 1:
            raise ValueError(f"backlog must be at least 1, got {self.backlog}")


class ListenError(OSError):
    """The address cannot be listened on; the message says why and what to do."""


def bind_listener(settings: ListenSettings) -> socket.socket:
    """A bound, listening, inheritable TCP socket."""
    host, port = settings.host.strip("[]"), settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ListenError(f"cannot listen on {host!r}: {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(settings.backlog)
    except OSError as error:
        listener.close()
        raise ListenError(_explained(error, host, port)) from error
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener


def address_of(listener: socket.socket) -> tuple[str, int]:
    """Host and port it really listens on."""
    host, port, *_ = listener.getsockname()
    return str(host), int(port)


def browsable_url(host: str, port: int, *, tls: bool = False) -> str:
    """A URL that works on this machine: a wildcard address is written as localhost."""
    scheme = "https" if tls else "http"
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _explained(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        owner = port_owner(port)
        who = f" by {owner}" if owner else ""
        return (
            f"port {port} on {host} is taken{who}: stop that program, or choose another port "
            f"(`--port {port + 1}`, or `PORT={port + 1} make serve`)"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights: choose one above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine has no address {host}: use 127.0.0.1, or 0.0.0.0 for all addresses"
    return f"cannot listen on {host}:{port}: {error.strerror}"
