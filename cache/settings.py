"""How a store is set up: small immutable values, one per part, that a JSON or YAML mapping converts into."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args
from urllib.parse import urlsplit, urlunsplit

import msgspec

WriteMode = Literal["through", "back", "never"]
"""When a tier gets a chunk: as soon as it is saved, when memory is about to drop it, or only by `move`."""
PolicyName = Literal["lru", "s3fifo"]

Owner = str | bytes
"""Whom bytes are counted for: a tenant by name, or a namespace by the 16 bytes of its digest."""

_BOOLEANS = dict.fromkeys(("true", "yes", "y", "on", "t", "1"), True) | dict.fromkeys(
    ("false", "no", "n", "off", "f", "0"), False
)
"""What every section of the settings takes."""
_DIGEST = re.compile("[0-9a-f]{32}")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B?|B)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 10, "M": 20, "G": 30, "T": 40}


class Quotas(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What any one tenant and any one namespace may have in a tier. A chunk counts for both of its own."""

    tenant_bytes: int | None = None
    """Most bytes of any one tenant in this tier (directly under `kv`: in memory); None: no limit."""
    tenants: Mapping[str, int] = {}
    """The same for named tenants, before `tenant_bytes`."""
    namespace_bytes: int | None = None
    """Most bytes of any one namespace: one model, adapter, tenant and quality."""
    namespaces: Mapping[str, int] = {}
    """The same for namespaces by digest, as `sluice cache stats` shows them, before `namespace_bytes`."""

    def __post_init__(self) -> None:
        for digest in self.namespaces:
            if _DIGEST.fullmatch(digest) is None:
                raise ValueError(f"namespaces: {digest!r} is no digest of 32 hexadecimal digits")
        for name, most in {
            "tenant_bytes": self.tenant_bytes or 0,
            "namespace_bytes": self.namespace_bytes or 0,
            **{f"tenants: {tenant}": nbytes for tenant, nbytes in self.tenants.items()},
            **{f"namespaces: {digest}": nbytes for digest, nbytes in self.namespaces.items()},
        }.items():
            if most < 0:
                raise ValueError(f"{name}: a quota is 0 bytes or more, not {most}; leave it out for no limit")

    def of(self, owner: Owner) -> int | None:
        """What a tenant (by name) or a namespace (by digest) may have here; None: no limit of its own."""
        if isinstance(owner, bytes):
            return self.namespaces.get(owner.hex(), self.namespace_bytes)
        return self.tenants.get(owner, self.tenant_bytes)

    @property
    def bound_tenants(self) -> bool:
        """Whether any tenant is limited."""
        return self.tenant_bytes is not None or bool(self.tenants)

    @property
    def bound_namespaces(self) -> bool:
        """Whether any namespace is limited."""
        return self.namespace_bytes is not None or bool(self.namespaces)


NO_QUOTAS = Quotas()


class LinkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the store talks to one slower tier."""

    codec: str = "raw"
    """How chunks are written there; `sluice codec list` has the names. A lossy one is refused here."""
    codec_config: Mapping[str, Any] = {}
    """The codec's own options."""
    write: WriteMode = "through"
    """When it gets a chunk. `through`: as soon as it is saved; `back`: when memory is about to drop it;
    `never`: only by `move`."""
    timeout_seconds: float = 5.0
    """Deadline of one batch."""
    batch: int = 16
    """Chunks per operation."""
    queue_chunks: int = 1024
    """Chunks waiting to be written; more are dropped, never a request delayed."""
    fill_on_hit: bool = True
    """Copy here what was found in a slower tier."""
    failures_to_open: int = 3
    """Failed operations in a row after which the tier is left alone for a while."""
    retry_seconds: float = 5.0
    """How long at first; doubled up to a minute while it stays broken."""
    stream_seconds: float | None = None
    """Keep chunks of less than exact quality at every better lossy level too, and fetch each batch at the
    best level with which the whole fetch is likely to end within so many seconds. None: only at the level
    asked for. For tiers that their own server bounds."""


class PackSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of memory that holds what the arena drops, encoded and at its true size: it holds more than it
    takes."""

    bytes: int
    """Set aside for it, beside the arena's."""
    policy: PolicyName = "s3fifo"
    """What to drop first: `s3fifo` or `lru`."""
    link: LinkSettings = LinkSettings(write="back", fill_on_hit=False)


class MemorySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arena in shared memory: raw chunks, ready to be copied into engine pages."""

    bytes: int = 1 << 30
    """Size of the arena."""
    policy: PolicyName = "s3fifo"
    """What to drop first: `s3fifo` or `lru`."""
    refill: float = 0.0
    """Part of it that a start fills with what was used last of a file tier, so that a restart costs little;
    0.5 is half of it."""
    prefault: bool = True
    """Take all of it from the system at start, instead of some way ahead of its use."""
    pack: PackSettings | None = None


class FileSettings(Quotas, frozen=True, forbid_unknown_fields=True):
    """A directory, shared by any number of processes."""

    path: str
    """The directory; made if it is not there."""
    bytes: int = 10 << 30
    """Bound over all processes that use the directory."""
    policy: PolicyName = "lru"
    """What to drop first: `lru` or `s3fifo`."""
    fsync: bool = False
    """Wait for the disk before a chunk counts as written. Without it a power cut may tear the newest files,
    which their checksums then turn into misses."""
    link: LinkSettings = LinkSettings(batch=32)


class ValkeySettings(Quotas, frozen=True, forbid_unknown_fields=True):
    """A Valkey or Redis server."""

    url: str
    """`redis://[user:password@]host:port/db`, `rediss://` for TLS, `unix://` for a socket."""
    ttl_seconds: int = 86400
    """Renewed by every read. The server's own `maxmemory` policy bounds the bytes."""
    prefix: str = "sluice:kv:"
    """Begins every key there."""
    link: LinkSettings = LinkSettings(timeout_seconds=2.0)

    def __repr__(self) -> str:
        parts = urlsplit(self.url)
        netloc = parts.netloc.rpartition("@")[2]
        masked = parts._replace(netloc=f"***@{netloc}" if "@" in parts.netloc else netloc)
        url = urlunsplit(masked)
        return f"ValkeySettings(url={url!r}, ttl_seconds={self.ttl_seconds}, prefix={self.prefix!r})"


class ObjectSettings(Quotas, frozen=True, forbid_unknown_fields=True):
    """A bucket of an S3-compatible object store. Credentials come from the usual AWS_* environment."""

    url: str
    """`s3://bucket/prefix`."""
    endpoint: str | None = None
    """For stores other than AWS, e.g. `http://127.0.0.1:9000`."""
    region: str | None = None
    """Of the bucket, where its store asks for one."""
    listing_seconds: float = 300.0
    """Where a tenant or namespace is limited: how often the bucket is listed, to learn what others have
    written. Until then each worker knows of its own writes."""
    link: LinkSettings = LinkSettings(timeout_seconds=10.0, write="back")


class StoreSettings(Quotas, frozen=True, forbid_unknown_fields=True):
    """The whole store. Absent tiers are None."""

    memory: MemorySettings = MemorySettings()
    file: FileSettings | None = None
    valkey: ValkeySettings | None = None
    object: ObjectSettings | None = None
    chunk_blocks: int = 1
    """Engine blocks per chunk: one keeps hits as fine as the engine's own."""
    ttl_seconds: float | None = None
    """Age after which a chunk is no longer served from any tier; None: no limit."""
    lease_seconds: float = 60.0
    """Longest time that a request may hold chunks in memory before it reads them."""
    fetch_seconds: float = 10.0
    """Longest time that a request waits for slower tiers; what has not come by then is computed. It waits
    less where computing takes less."""
    reserve_seconds: float = 120.0
    """Longest time between reserving slots and committing them; no save takes that long."""
    miss_memory_seconds: float = 2.0
    """How long a shared tier is not asked again for a chunk that it did not have."""
    far_chunks: int = 100_000
    """Chunks remembered that only Valkey or S3 have; beyond, what was not used for longest is forgotten here
    and has to be asked for again. One takes 700 bytes."""


def store_settings(mapping: Mapping[str, Any]) -> StoreSettings:
    """Settings from JSON or YAML values; sizes may be written `"4GiB"`.

    Raises ValueError naming the field that is unknown, missing or of a wrong type.
    """
    try:
        words = with_booleans(mapping, StoreSettings)
        return msgspec.convert(_sizes(words), StoreSettings, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"KV store settings: {error}") from error


def with_booleans(mapping: Mapping[str, Any], section: type[msgspec.Struct]) -> dict[str, Any]:
    """The mapping with `yes`, `off` and the like as booleans where the section wants such: environment
    variables are words."""
    kinds = {field.name: field.type for field in msgspec.structs.fields(section)}
    found: dict[str, Any] = {}
    for name, value in mapping.items():
        kind = kinds.get(name)
        inner = next((part for part in (kind, *get_args(kind)) if _is_struct(part)), None)
        if isinstance(value, Mapping) and inner is not None:
            found[name] = with_booleans(value, inner)
        elif kind is bool and isinstance(value, str):
            found[name] = _BOOLEANS.get(value.strip().lower(), value)
        else:
            found[name] = value
    return found


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def parse_size(text: str) -> int:
    """Bytes of `512MiB`, `4G`, `1.5TB`; powers of 1024 throughout, as engines count memory."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a size: {text!r}; write bytes, or a number with KiB, MiB, GiB or TiB")
    unit = (match[2] or "").upper().rstrip("B").rstrip("I")
    return int(float(match[1]) * (1 << _UNITS[unit])) if unit else int(float(match[1]))


def _sizes(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        inner = "bytes" if name in ("tenants", "namespaces") else None
        return {key: _sizes(item, inner or str(key)) for key, item in value.items()}
    if isinstance(value, str) and name in ("bytes", "tenant_bytes", "namespace_bytes"):
        return parse_size(value)
    return value
