"""Whose KV a request may use: vLLM's configuration and a request's own properties as a cache namespace."""

from __future__ import annotations

import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import blake3
import cbor2

from cache.keys import Namespace
from cache.layout import KVLayout
from engine_adapter.cache_salt import CacheSalt
from engine_adapter.vllm.weights import NoWeights, fingerprint

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig
    from vllm.v1.request import Request

logger = logging.getLogger("vllm.sluice")

_ROPE = (
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "max_position_embeddings",
    "original_max_position_embeddings",
)
_INCIDENTAL = frozenset({"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache"})
"""Parts of a model's configuration that say nothing about its KV, or that the namespace names itself."""
_MOST_OPEN = 4096
"""Namespaces that are open at a time, about half a kilobyte each: clients choose salts, and may choose a new
one with every request."""


class Namespaces:
    """The namespace digest of each request of one engine; remembers those it has opened, used last.

    An adapter is known by the content of its files, read again when they change. `of` and `part` are for one
    thread.
    """

    def __init__(
        self,
        engine: Namespace,
        opened: Callable[[Namespace], bytes],
        closed: Callable[[bytes], None],
        most: int = _MOST_OPEN,
    ) -> None:
        """`engine`: that of a request without adapter, tenant or other quality. `opened` is told of each, and
        `closed` of the digest of one that was not used for long, since `most` others were."""
        self.engine = engine
        self._opened = opened
        self._closed = closed
        self._most = most
        self._lock = Lock()
        self._digests: OrderedDict[tuple[str, str, str], bytes] = OrderedDict()
        """By adapter, tenant, quality; used last at the end."""
        self._adapters: dict[tuple[str, int, int], str] = {}
        self._named: dict[str, str] = {}
        """The latest content of each adapter that a request has named."""
        self._adapter_names: dict[bytes, str] = {}
        """By namespace."""

    def of(self, request: Request) -> bytes | None:
        """16 bytes, or None for a request whose adapter cannot be read, which must not touch the cache."""
        content = name = ""
        if request.lora_request is not None:
            name = request.lora_request.lora_name
            found = self._adapter(Path(request.lora_request.lora_path))
            if found is None:
                return None
            content = self._named[name] = found
        salt = CacheSalt.parse(request.cache_salt)
        return self._digest(content, salt.tenant, salt.quality, name)

    def digest_of(self, tenant: str, quality: str, adapter: str) -> bytes:
        """See `KnownNamespaces`: an adapter is known once a request has used it."""
        content = self._named.get(adapter, "")
        if adapter and not content:
            known = ", ".join(sorted(self._named)) or "none"
            raise ValueError(
                f"no request has used the adapter {adapter!r} since this worker began; known: {known}"
            )
        return self._digest(content, tenant, quality, adapter)

    def _digest(self, content: str, tenant: str, quality: str, adapter: str) -> bytes:
        """Of a namespace that is open from here on."""
        known = (content, tenant, quality)
        with self._lock:
            digest = self._digests.get(known)
            if digest is not None:
                self._digests.move_to_end(known)
            else:
                namespace = replace(self.engine, adapter=content, tenant=tenant, kind=quality)
                digest = self._digests[known] = self._opened(namespace)
                if len(self._digests) > self._most:
                    self._close(self._digests.popitem(last=False)[1])
            if adapter:
                self._adapter_names[digest] = adapter
        return digest

    def _close(self, digest: bytes) -> None:
        self._adapter_names.pop(digest, None)
        self._closed(digest)

    def adapter_of(self, namespace: bytes) -> str:
        """See `KnownNamespaces`."""
        return self._adapter_names.get(namespace, "")

    def part(self) -> None:
        """From here on share nothing with anybody, nor with what this engine has saved so far."""
        self.engine = replace(self.engine, weights=_private("its caches were reset while it ran"))
        with self._lock:
            while self._digests:
                self._close(self._digests.popitem()[1])

    def _adapter(self, directory: Path) -> str | None:
        try:
            stats = [path.stat() for path in sorted(directory.iterdir())]
            known = (str(directory), max(s.st_mtime_ns for s in stats), sum(s.st_size for s in stats))
            if known not in self._adapters:
                settings = directory / "adapter_config.json"
                hasher = blake3.blake3(fingerprint(directory))
                hasher.update(settings.read_bytes() if settings.is_file() else b"")
                self._adapters[known] = hasher.hexdigest(length=16)
            return self._adapters[known]
        except (OSError, NoWeights, ValueError) as error:
            logger.warning("sluice-kv: requests for the adapter at %s are not cached: %s", directory, error)
            return None


def engine_namespace(config: VllmConfig, layout: KVLayout) -> Namespace:
    """The namespace of what this engine computes without adapter or tenant."""
    model = config.model_config
    hf = _plain(model.hf_config.to_dict())
    described = {key: value for key, value in hf.items() if key not in _INCIDENTAL}
    described["quantization"] = str(model.quantization)
    weights = _weights(model, config)
    if config.speculative_config is not None and (draft := config.speculative_config.draft_model_config):
        # Its layers may lie in the same pages.
        weights += "+" + _weights(draft, config)
    text = _plain(model.hf_text_config.to_dict())
    names = "-".join(hf.get("architectures") or ["model"])
    return Namespace(
        model=f"{names}:{_digest(described)}",
        weights=weights,
        revision=str(model.revision or ""),
        dtype=str(model.dtype).removeprefix("torch."),
        rope={key: text[key] for key in _ROPE if text.get(key) is not None},
        layout=layout.fingerprint(),
        tp_rank=0,
        tp_size=config.parallel_config.tensor_parallel_size,
    )


def _weights(model: ModelConfig, config: VllmConfig) -> str:
    if config.load_config.load_format == "dummy":
        return _private("its weights are random")
    try:
        return fingerprint(_directory(model)).hex()[:32]
    except (OSError, NoWeights, ValueError) as error:
        return _private(str(error))


def _directory(model: ModelConfig) -> Path:
    directory = Path(model.model)
    if directory.is_dir():
        return directory
    if directory.is_file():
        return directory.parent
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model.model, revision=model.revision, local_files_only=True))


def _private(reason: str) -> str:
    """A name that no other engine has: what is cached under it dies with this process."""
    logger.warning("sluice-kv: KV of this model is shared with nobody and is lost on restart: %s", reason)
    return f"private-{secrets.token_hex(16)}"


def _digest(value: Mapping[str, Any]) -> str:
    return blake3.blake3(cbor2.dumps(value, canonical=True)).hexdigest(length=8)


def _plain(value: Any) -> Any:
    """A configuration as CBOR values; what is none becomes its words."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
