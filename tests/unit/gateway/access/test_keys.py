from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gateway.access.keys import Key, KeyFileError, KeyRing, append_key, new_key, read_keys, revoke_key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def bearer(secret: str) -> bytes:
    return b"Bearer " + secret.encode()


def touch(file: Path, text: str) -> None:
    """Change a file so that its mtime differs even on a coarse clock."""
    before = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(before + 1_000_000, before + 1_000_000))


def test_a_key_is_found_by_its_secret_and_by_nothing_else(file: Path) -> None:
    secret, record = new_key("ann", "physics", models=("small",), max_priority=3, admin=True)
    append_key(file, record)
    ring = KeyRing(file)

    found = ring.check(bearer(secret))
    assert found == record
    assert found is not None
    assert (found.tenant, found.max_priority, found.admin) == ("physics", 3, True)
    assert ring.check(bearer(secret[:-1])) is None
    assert ring.check(bearer(secret + "x")) is None
    assert ring.check(bearer(record.hash)) is None
    assert ring.check(b"Bearer ") is None
    assert ring.check(None) is None


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER ", b"Bearer  "])
def test_the_scheme_is_not_case_sensitive(file: Path, scheme: bytes) -> None:
    secret, record = new_key("ann")
    append_key(file, record)
    assert KeyRing(file).check(scheme + secret.encode()) == record


def test_x_api_key_of_the_anthropic_form(file: Path) -> None:
    secret, record = new_key("ann")
    append_key(file, record)
    ring = KeyRing(file)
    assert ring.check(None, secret.encode()) == record
    assert ring.check(b"Basic eDp5", secret.encode()) == record
    assert ring.check(b"Bearer wrong", secret.encode()) is None
    assert ring.check(None, b"wrong") is None


def test_a_digest_that_fits_in_its_index_only_is_refused(file: Path) -> None:
    secret, record = new_key("ann")
    forged = record.hash[:16] + "0" * 48
    append_key(file, Key(id="key_x", name="forged", hash=forged))
    assert KeyRing(file).check(bearer(secret)) is None


def test_the_file_holds_no_secret_and_is_private(file: Path) -> None:
    secret, record = new_key("ann")
    append_key(file, record)
    append_key(file, new_key("bob")[1])
    assert secret not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [key.name for key in read_keys(file)] == ["ann", "bob"]
    assert not list(file.parent.glob(f".{file.name}.[0-9]*"))


def test_a_revoked_key_is_refused_after_the_next_reload(file: Path) -> None:
    secret, record = new_key("ann")
    append_key(file, record)
    ring = KeyRing(file)
    assert not ring.reload_if_changed()

    assert [key.id for key in revoke_key(file, "ann")] == [record.id]
    assert revoke_key(file, record.id) == []
    assert ring.reload_if_changed()
    assert ring.check(bearer(secret)) is None
    assert len(ring) == 0


def test_a_broken_file_keeps_the_last_good_keys(file: Path) -> None:
    secret, record = new_key("ann")
    append_key(file, record)
    ring = KeyRing(file)

    touch(file, '{"keys": [')
    assert not ring.reload_if_changed()
    assert ring.check(bearer(secret)) == record

    file.unlink()
    assert not ring.reload_if_changed()
    assert ring.check(bearer(secret)) == record

    other, record = new_key("bob")
    append_key(file, record)
    assert ring.reload_if_changed()
    assert ring.check(bearer(other)) == record
    assert ring.check(bearer(secret)) is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[]", "Expected `object`"),
        ('{"keys": [{"id": "a", "name": "b"}]}', r"`hash` - at `\$.keys\[0\]`"),
        ('{"keys": [{"id": "a", "name": "b", "hash": "12"}]}', "64 hex digits"),
        ('{"keys": [{"id": "a", "name": "b", "hash": "zz"}]}', "64 hex digits"),
        ('{"keys": [{"id": "a", "name": "b", "secret": "s"}]}', "unknown field `secret`"),
    ],
)
def test_a_malformed_file_says_where(file: Path, text: str, complaint: str) -> None:
    file.write_text(text)
    with pytest.raises(KeyFileError, match=complaint) as raised:
        read_keys(file)
    assert str(file) in str(raised.value)


def test_ids_and_secrets_are_unique_in_a_file(file: Path) -> None:
    _, record = new_key("ann")
    append_key(file, record)
    append_key(file, record)
    with pytest.raises(KeyFileError, match="same id"):
        read_keys(file)
    file.unlink()
    append_key(file, record)
    append_key(file, Key(id="key_other", name="copy", hash=record.hash))
    with pytest.raises(KeyFileError, match="same secret"):
        KeyRing(file)


def test_models_of_a_key() -> None:
    _, everything = new_key("ann")
    _, some = new_key("ann", models=("small",))
    assert everything.may_use("large")
    assert some.may_use("small")
    assert not some.may_use("large")
