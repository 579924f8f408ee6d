"""How KV of less than exact quality is stored: by the level's codec for the engine's model."""

from __future__ import annotations

import logging
import threading

from cache.codecs.codec import Codec, UnknownCodec
from cache.keys import EXACT, Namespace
from cache.settings import StoreSettings

logger = logging.getLogger("vllm.sluice")
KERNEL_PATIENCE = 5.0
"""Seconds that an engine's start waits at most."""


def codec_of(namespace: Namespace) -> Codec | None:
    """The codec for a namespace's chunks in slower tiers; None leaves the tier's own, which is lossless."""
    if namespace.kind == EXACT:
        return None
    from cache.codecs.levels import levels_for

    level = next((one for name, one in levels_for(namespace.weights).items() if name == namespace.kind), None)
    if level is None:
        return None
    try:
        return level.build()
    except UnknownCodec as error:
        logger.warning("sluice-kv: quality %s is stored as exact: %s", namespace.kind, error)
        return None


def prepare_kernels(settings: StoreSettings) -> None:
    """Load the codecs' kernels while the engine starts, where anything will be encoded at all.

    What an earlier process compiled is there in a second, and waited for: beside the first requests it would
    hold the GIL from them. Compiling anew goes on in the background after KERNEL_PATIENCE.
    """
    packs = settings.memory.pack is not None
    if packs or settings.file is not None or settings.valkey is not None or settings.object is not None:
        thread = threading.Thread(target=_compile, name="sluice-kv-kernels", daemon=True)
        thread.start()
        thread.join(KERNEL_PATIENCE)


def _compile() -> None:
    try:
        from kernels.dispatch import warm_up

        warm_up()
    except Exception:
        # Without kernels only raw frames can be written; the store counts the others as lost saves.
        logger.exception("sluice-kv: the codecs' kernels could not be compiled")
