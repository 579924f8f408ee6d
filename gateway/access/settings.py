"""Who may use the gateway: the key file, and the rule that a public address needs one."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may use the gateway."""

    key_file: Path | None = None
    """File written by `sluice key create`. None: no keys are asked for, on a loopback address only."""
    public_without_keys: bool = False
    """Listen on a public address without keys, e.g. behind an ingress that authenticates. Off by default."""
    reload_seconds: float = 2.0
    """How often the key file is looked at for changes."""


def is_loopback(host: str) -> bool:
    """May only this machine connect to `host`? A name other than localhost counts as public."""
    if host.lower().rstrip(".") in LOOPBACK_NAMES:
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback


def startup_error(settings: AccessSettings, host: str, usable_keys: int) -> str | None:
    """Why the gateway must not listen on `host` with these keys, in words, or None if it may.

    `usable_keys` counts the keys of the file that are not revoked.
    """
    if is_loopback(host) and settings.key_file is None:
        return None
    if usable_keys:
        return None
    if settings.key_file is not None:
        return (
            f"{settings.key_file} holds no usable key, so nobody could use the gateway: "
            f"create one with `sluice key create --file {settings.key_file} NAME`"
        )
    if settings.public_without_keys:
        return None
    return (
        f"{host} can be reached from other machines and no API keys are set up: create one with "
        "`sluice key create --file keys.json NAME` and start with `--api-key-file keys.json`, "
        "or listen on 127.0.0.1"
    )
