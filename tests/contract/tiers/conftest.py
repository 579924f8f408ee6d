"""Every tier, empty, before every test of the contract."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cache.settings import LinkSettings, ObjectSettings, ValkeySettings
from cache.tiers.faulty import FaultyTier
from cache.tiers.file import FileTier
from cache.tiers.memory import MemoryTier
from cache.tiers.object import ObjectTier
from cache.tiers.tier import Tier
from cache.tiers.valkey import ValkeyTier
from loadtests.bench.kv_servers import ACCESS, SECRET, ServerMissing, rclone, redis_server, s3, valkey
from tests.contract.tiers.frames import CHUNK_BYTES, Reader

CAPACITY = 64 * (CHUNK_BYTES + 512)
BUCKET = "kv"
MakeTier = Callable[[], Tier]
_numbers = itertools.count()


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    skip_without(redis_server)
    with valkey(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    skip_without(rclone)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", ACCESS)
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        with s3(tmp_path_factory.mktemp("s3"), BUCKET) as endpoint:
            yield endpoint


def skip_without(server: Callable[[], str]) -> None:
    try:
        server()
    except ServerMissing as missing:
        pytest.skip(str(missing))


def object_settings(endpoint: str, prefix: str) -> ObjectSettings:
    return ObjectSettings(
        f"s3://{BUCKET}/{prefix}", endpoint, "us-east-1", LinkSettings(timeout_seconds=60.0)
    )


@pytest.fixture(params=["memory", "file", "valkey", "s3", "faulty"])
def make_tier(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeTier]:
    """Makes tiers on one and the same place: the second sees what the first stored, if the tier is shared."""
    made: list[Tier] = []
    number = next(_numbers)

    def make() -> Tier:
        tier: Tier
        if request.param == "memory":
            tier = MemoryTier(2 * CAPACITY, CHUNK_BYTES)
        elif request.param == "file":
            tier = FileTier(str(tmp_path / "kv"), CAPACITY)
        elif request.param == "faulty":
            tier = FaultyTier(FileTier(str(tmp_path / "kv"), CAPACITY), lambda operation, key: None)
        elif request.param == "valkey":
            url = request.getfixturevalue("valkey_url")
            tier = ValkeyTier(
                ValkeySettings(url, prefix=f"test*{number}:", link=LinkSettings(timeout_seconds=60.0))
            )
        else:
            endpoint = request.getfixturevalue("s3_endpoint")
            tier = ObjectTier(object_settings(endpoint, f"test/{number}"))
        made.append(tier)
        return tier

    yield make
    for tier in made:
        tier.close()


@pytest.fixture
def tier(make_tier: MakeTier) -> Tier:
    return make_tier()


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.arena.close()
