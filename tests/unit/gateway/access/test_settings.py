from __future__ import annotations

from pathlib import Path

import pytest

from gateway.access.settings import AccessSettings, is_loopback, startup_error


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.1", False),
        ("gateway.example", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_loopback_needs_no_keys() -> None:
    assert startup_error(AccessSettings(), "127.0.0.1", 0) is None


def test_a_public_address_demands_keys() -> None:
    error = startup_error(AccessSettings(), "0.0.0.0", 0)
    assert error is not None
    assert "0.0.0.0" in error
    assert "sluice key create" in error
    assert startup_error(AccessSettings(key_file=Path("keys.json")), "0.0.0.0", 1) is None


def test_public_without_keys_is_an_explicit_choice() -> None:
    assert startup_error(AccessSettings(public_without_keys=True), "0.0.0.0", 0) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_key_file_without_a_usable_key_is_an_error_everywhere(host: str) -> None:
    error = startup_error(AccessSettings(key_file=Path("k.json"), public_without_keys=True), host, 0)
    assert error is not None
    assert "k.json" in error
