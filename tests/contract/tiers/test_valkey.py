"""What the Valkey tier promises beyond the contract: passwords, TLS, time to live, and servers that fail."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trustme
from valkey import Valkey

from cache.settings import LinkSettings, ValkeySettings
from cache.tiers.tier import Fault
from cache.tiers.valkey import ValkeyTier
from loadtests.bench.kv_servers import redis_server, valkey
from tests.contract.tiers.conftest import skip_without
from tests.contract.tiers.frames import Reader, deadline, frame, keys, payload

LINK = LinkSettings(timeout_seconds=60.0)


@pytest.fixture(autouse=True)
def server_installed() -> None:
    skip_without(redis_server)


def test_passwords_are_asked_for_and_given(tmp_path: Path) -> None:
    with valkey(tmp_path, "--requirepass", "open sesame") as url:
        path = url.removeprefix("unix://")
        right = ValkeyTier(ValkeySettings(f"unix://:open%20sesame@{path}", link=LINK))
        wrong = ValkeyTier(ValkeySettings(f"unix://:guess@{path}", link=LINK))
        (key,) = keys(1)
        assert right.put([frame(key, 1)], deadline()) == [None]
        assert wrong.put([frame(key, 1)], deadline()) == [Fault.GONE]
        right.close()
        wrong.close()


def test_tls_by_url(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ["--tls-port", str(port), "--tls-auth-clients", "no", "--bind", "127.0.0.1"]
    flags += ["--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-key-file", str(tmp_path / "key.pem")]
    flags += ["--tls-ca-cert-file", str(tmp_path / "ca.pem")]
    with valkey(tmp_path, *flags):
        url = f"valkeys://localhost:{port}/0?ssl_ca_certs={tmp_path / 'ca.pem'}"
        tier = ValkeyTier(ValkeySettings(url, link=LINK))
        (key,) = keys(1)
        assert tier.put([frame(key, 1)], deadline()) == [None]
        reader = Reader()
        assert reader.read(tier, [key]) == [payload(1).tobytes()]
        reader.arena.close()
        tier.close()


def test_reads_renew_the_time_to_live(valkey_url: str) -> None:
    tier = ValkeyTier(ValkeySettings(valkey_url, ttl_seconds=1000, prefix="ttl:", link=LINK))
    (key,) = keys(1)
    tier.put([frame(key, 1)], deadline())
    client = Valkey.from_url(valkey_url)
    name = b"ttl:" + key
    assert 0 < client.pttl(name) <= 1_000_000
    client.expire(name, 10)
    reader = Reader()
    reader.read(tier, [key])
    assert client.pttl(name) > 10_000
    reader.arena.close()
    client.close()
    tier.close()


def test_a_server_without_room_is_full_and_one_that_died_is_gone(tmp_path: Path) -> None:
    wanted = keys(400)
    with valkey(tmp_path, "--maxmemory", "2mb", "--maxmemory-policy", "noeviction") as url:
        tier = ValkeyTier(ValkeySettings(url, link=LINK))
        answers = tier.put([frame(key, 1) for key in wanted], deadline())
        assert Fault.FULL in answers
        assert set(answers) <= {None, Fault.FULL}
    reader = Reader()
    assert reader.read(tier, wanted[:2]) == [Fault.GONE] * 2
    assert tier.contains(wanted[:2], deadline()) == [Fault.GONE] * 2
    assert tier.delete(wanted[:2], deadline()) == [Fault.GONE] * 2
    assert list(tier.scan(deadline())) == []
    reader.arena.close()
    tier.close()


def test_a_server_that_does_not_answer_is_a_time_out(tmp_path: Path) -> None:
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        tier = ValkeyTier(ValkeySettings(f"unix://{path}", link=LinkSettings(timeout_seconds=0.05)))
        assert tier.contains(keys(1), deadline()) == [Fault.TIMEOUT]
        tier.close()
