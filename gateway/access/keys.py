"""API keys: stored as hashes, checked without a copy of any secret in memory or on disk.

A secret carries 256 random bits, so a fast hash without salt is the right one: there is nothing to guess.
The hash of a key can be made elsewhere too: `printf %s "$SECRET" | openssl dgst -blake2s256`.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2s
from hmac import compare_digest
from pathlib import Path

import msgspec
import structlog

log = structlog.get_logger(__name__)

SECRET_PREFIX = "sk-sluice-"
_INDEXED = 8
"""Bytes of a digest that the table is indexed with; the others are compared in constant time."""


class KeyFileError(ValueError):
    """The key file is not what `sluice key create` writes; the message names the file and the field."""


POOL = "default"
"""The tenant of keys that were given none."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One API key as the file holds it. The secret itself is shown once, when the key is made."""

    id: str
    name: str
    hash: str
    """BLAKE2s-256 of the secret, in hex."""
    tenant: str = POOL
    """Whom its use is counted for, and who shares KV caches: those of one tenant never serve another. Tenant
    `default` is the pool of all who were not given one."""
    shares_cache: bool = False
    """Its requests use the KV of the `default` pool in spite of its tenant, and add to it."""
    models: tuple[str, ...] | None = None
    """Model names that it may use; None for all."""
    max_priority: int = 0
    """Highest priority that its requests may ask for; a larger one is served sooner."""
    admin: bool = False
    """May use `/admin`."""
    created: int = 0
    """Unix time."""
    disabled: bool = False

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models


class _KeyFile(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[Key] = []


def new_key(
    name: str,
    tenant: str = POOL,
    *,
    models: tuple[str, ...] | None = None,
    max_priority: int = 0,
    admin: bool = False,
    shares_cache: bool = False,
) -> tuple[str, Key]:
    """Make a key: the secret, to be handed out once, and the record to keep."""
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    record = Key(
        id=f"key_{secrets.token_hex(6)}",
        name=name,
        hash=blake2s(secret.encode()).hexdigest(),
        tenant=tenant,
        shares_cache=shares_cache,
        models=models,
        max_priority=max_priority,
        admin=admin,
        created=int(time.time()),
    )
    return secret, record


def read_keys(path: Path) -> list[Key]:
    """Every key of the file, revoked ones too.

    Raises KeyFileError if the file is malformed and FileNotFoundError if it is absent.
    """
    try:
        keys = msgspec.json.decode(path.read_bytes(), type=_KeyFile).keys
    except msgspec.DecodeError as error:
        raise KeyFileError(f"{path}: {error}") from error
    for number, key in enumerate(keys):
        try:
            length = len(bytes.fromhex(key.hash))
        except ValueError:
            length = 0
        if length != 32:
            raise KeyFileError(f"{path}: $.keys[{number}].hash must be 64 hex digits")
    if len({key.id for key in keys}) != len(keys):
        raise KeyFileError(f"{path}: two keys have the same id")
    return keys


def append_key(path: Path, record: Key) -> None:
    """Add a key to the file, which is made if it is absent."""
    with _rewriting(path) as keys:
        keys.append(record)


def revoke_key(path: Path, id_or_name: str) -> list[Key]:
    """Disable the keys with that id or name; returns those that were changed."""
    with _rewriting(path) as keys:
        changed = []
        for number, key in enumerate(keys):
            if id_or_name in (key.id, key.name) and not key.disabled:
                keys[number] = msgspec.structs.replace(key, disabled=True)
                changed.append(keys[number])
    return changed


@contextmanager
def _rewriting(path: Path) -> Iterator[list[Key]]:
    """Change the list inside the block; the file is replaced whole when it ends, with mode 0600.

    A lock beside the file keeps two writers apart; readers need none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = read_keys(path) if path.exists() else []
        yield keys
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(_KeyFile(keys)), indent=1) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        os.close(lock)


class KeyRing:
    """The usable keys of one file, looked up by the token that a request presents.

    Constant time enough: the token is hashed first, so that nothing a client can choose is compared
    directly. The table lookup sees the first 8 bytes of the digest: its timing could at most tell how many
    of those fit a stored key, and whoever wants to use that needs tokens with chosen digests, which is the
    work of breaking BLAKE2s, and would still not hold a token whose whole digest fits. The other 24 bytes
    are compared with `hmac.compare_digest`. A revoked key is not in the table and looks like an unknown one.
    """

    __slots__ = ("_path", "_seen", "_table", "version")

    def __init__(self, path: Path) -> None:
        """Read the file. Raises KeyFileError, FileNotFoundError."""
        self._path = path
        self._seen = _version(path)
        self._table = _table(path, read_keys(path))
        self.version = 1
        """Grows with every change of the keys."""

    def __len__(self) -> int:
        """Usable keys."""
        return len(self._table)

    def check(self, authorization: bytes | None, x_api_key: bytes | None = None) -> Key | None:
        """The key that a request presents, or None if it has none that is known and in force.

        `authorization` is the header's value as received (`Bearer <secret>`), `x_api_key` that of the
        Anthropic form.
        """
        if authorization is not None and authorization[:7].lower() == b"bearer ":
            token = authorization[7:].strip()
        elif x_api_key is not None:
            token = x_api_key
        else:
            return None
        digest = blake2s(token).digest()
        found = self._table.get(digest[:_INDEXED])
        if found is not None and compare_digest(found[0], digest):
            return found[1]
        return None

    def reload_if_changed(self) -> bool:
        """Read the file again if it was replaced or edited; True if the keys are new now.

        Meant for a timer. A broken or missing file keeps the last good keys and is logged once.
        """
        version = _version(self._path)
        if version == self._seen:
            return False
        self._seen = version
        try:
            self._table = _table(self._path, read_keys(self._path))
        except (OSError, KeyFileError) as error:
            log.warning("key file cannot be read, the last good keys stay in force", error=str(error))
            return False
        self.version += 1
        log.info("keys reloaded", file=str(self._path), usable=len(self._table))
        return True


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _table(path: Path, keys: list[Key]) -> dict[bytes, tuple[bytes, Key]]:
    table: dict[bytes, tuple[bytes, Key]] = {}
    for key in keys:
        if key.disabled:
            continue
        digest = bytes.fromhex(key.hash)
        if digest[:_INDEXED] in table:
            raise KeyFileError(f"{path}: {key.id} has the same secret as {table[digest[:_INDEXED]][1].id}")
        table[digest[:_INDEXED]] = digest, key
    return table
