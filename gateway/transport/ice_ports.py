"""Local UDP ports out of a range, which aioice has no setting for: for firewalls and containers."""

from __future__ import annotations

import asyncio
import errno
import random
from typing import Any

from aioice import Candidate
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import StunProtocol


def bind_within(connection: Any, ports: range) -> None:
    """Make an `aioice.ice.Connection` that has not gathered candidates yet take its ports from `ports`.

    Such a host is not asked for its address by STUN: whoever opens ports by hand knows it and sets
    `advertised_address`. TURN works as before.
    """
    gather_elsewhere = connection.get_component_candidates

    async def gather(component: int, addresses: list[str], **options: Any) -> list[Candidate]:
        found = []
        for address in addresses:
            if (protocol := await _bind(connection, address, ports)) is not None:
                host, port = protocol.transport.get_extra_info("sockname")[:2]
                protocol.local_candidate = Candidate(
                    foundation=candidate_foundation("host", "udp", host),
                    component=component,
                    transport="udp",
                    priority=candidate_priority(component, "host"),
                    host=host,
                    port=port,
                    type="host",
                )
                connection._protocols.append(protocol)
                found.append(protocol.local_candidate)
        found += await gather_elsewhere(component=component, addresses=[], **options)
        return found

    connection.get_component_candidates = gather


async def _bind(connection: Any, address: str, ports: range) -> StunProtocol | None:
    """A socket of `address` on a free port of `ports`, None if there is none."""
    loop = asyncio.get_running_loop()
    for port in random.sample(ports, len(ports)):
        try:
            _, protocol = await loop.create_datagram_endpoint(
                lambda: StunProtocol(connection), local_addr=(address, port)
            )
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return None
        else:
            return protocol
    return None
