"""What `kv_connector_extra_config` may say: the store's settings, and a few words to the connector itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cache.settings import StoreSettings, store_settings


@dataclass(frozen=True, slots=True)
class Options:
    """`save_decoded`: save the KV of answers too, as it fills chunks, not only that of prompts.
    `control`: where the control API listens, `unix:///path` or `http://host:port`; None for none.
    """

    store: StoreSettings
    save_decoded: bool = False
    control: str | None = None


def read_options(config: Mapping[str, Any]) -> Options:
    """Raises ValueError naming what is wrong."""
    rest = dict(config)
    save_decoded = rest.pop("save_decoded", False)
    if save_decoded not in (True, False):
        raise ValueError(f"save_decoded is true or false, not {save_decoded!r}")
    control = rest.pop("control", None)
    if control is not None and not isinstance(control, str):
        raise ValueError(f"control is an address like unix:///run/sluice/kv.sock, not {control!r}")
    return Options(store_settings(rest), save_decoded, control)
