"""`/admin/cache` and `sluice cache` before real control servers of real stores; no engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from cache.keys import namespace_of
from cache.operator import Operator
from engine_adapter.api import WorkerInfo
from engine_adapter.vllm.control_server import TOKEN_VARIABLE, ControlServer, control_server
from gateway.api.context import GatewayContext
from gateway.api.kv_layer import KvLayer
from gateway.cli import cache as cli
from gateway.relay.membership import Membership
from gateway.routing.fleet import Fleet
from tests.unit.cache.stores import CHUNK_BYTES, LAYOUT, Bench, BenchNamespaces

TOKENS = list(range(4 * LAYOUT.block_tokens))


def operator_of(bench: Bench) -> Operator:
    return Operator(bench.store, BenchNamespaces(bench.store))


@pytest.fixture
def benches(tmp_path: Path, context: GatewayContext) -> Iterator[list[Bench]]:
    """Two workers with control servers, and a third one without a KV layer."""
    benches = [Bench(), Bench()]
    servers = [
        control_server(operator_of(bench), f"unix://{tmp_path}/w{number}.control")
        for number, bench in enumerate(benches)
    ]
    infos = [
        WorkerInfo(
            f"w{number}",
            f"http://127.0.0.1:{9000 + number}",
            kv_control=f"unix://{tmp_path}/w{number}.control",
        )
        for number in range(2)
    ]
    fleet = Fleet()
    infos.append(WorkerInfo("bare", "http://127.0.0.1:9002"))
    context.membership = Membership(fleet, tmp_path / "more-overrides.json", workers=infos)
    yield benches
    for server in servers:
        assert server is not None
        server.close()
    for bench in benches:
        bench.store.close()


async def test_workers_are_shown_one_by_one_and_added_up(benches: list[Bench], visit: Any) -> None:
    benches[0].save(benches[0].keys(3))
    benches[1].save(benches[1].keys(2))
    async with visit() as client:
        found = (await client.get("/admin/cache")).json()
        assert set(found["workers"]) == {"w0", "w1"}
        assert found["workers"]["w0"]["chunk_tokens"] == LAYOUT.block_tokens
        memory = found["tiers"]["memory"]
        assert (memory["chunks"], memory["saves"], memory["available"]) == (5, 5, True)
        assert memory["capacity_bytes"] == sum(b.store.arena.capacity for b in benches)
        chunks = (await client.get("/admin/cache/chunks?limit=2&worker=w0")).json()["workers"]
        assert [len(chunks["w0"]["chunks"]), len(chunks)] == [2, 1]
        assert (await client.get("/admin/cache/health")).json()["workers"]["w1"] == {
            "tiers": {"memory": True}
        }


async def test_shares_and_quotas_are_added_up_where_each_worker_has_its_own(
    context: GatewayContext, visit: Any, tmp_path: Path
) -> None:
    quota = 6 * CHUNK_BYTES
    benches = [Bench(tenants={"acme": quota}, namespace_bytes=4 * CHUNK_BYTES) for _ in range(2)]
    infos = []
    servers = []
    for number, bench in enumerate(benches):
        address = f"unix://{tmp_path}/q{number}.control"
        servers.append(control_server(operator_of(bench), address))
        infos.append(WorkerInfo(f"q{number}", f"http://127.0.0.1:{9010 + number}", kv_control=address))
        bench.save(bench.keys(3 + number, tenant="acme"))
        bench.save(bench.keys(1))
    context.membership = Membership(Fleet(), tmp_path / "quota-overrides.json", workers=infos)
    async with visit() as client:
        found = (await client.get("/admin/cache")).json()
    assert found["tenants"]["acme"] == {"used": {"memory": 7 * CHUNK_BYTES}, "quotas": {"memory": 2 * quota}}
    assert found["tenants"][""] == {"used": {"memory": 2 * CHUNK_BYTES}, "quotas": {}}
    (acme,) = (share for share in found["namespaces"].values() if share.get("tenant") == "acme")
    assert acme["used"] == {"memory": 7 * CHUNK_BYTES}
    assert acme["quotas"] == {"memory": 8 * CHUNK_BYTES}
    assert acme["quality"] == "exact"
    lines = list(cli.stats_table(found))
    assert any(line.startswith("tenant acme: memory ") and " of " in line for line in lines)
    digest = namespace_of(benches[0].keys(1, tenant="acme")[0]).hex()
    assert any(line.startswith(f"namespace {digest} (tenant acme, exact): memory ") for line in lines)
    for server, bench in zip(servers, benches, strict=True):
        assert server is not None
        server.close()
        bench.store.close()


async def test_a_command_goes_to_every_worker_or_to_one(benches: list[Bench], visit: Any) -> None:
    for bench in benches:
        bench.save(bench.keys(4))
    async with visit() as client:
        body = {"select": {"tokens": TOKENS}}
        found = (await client.post("/admin/cache/lookup", json=body)).json()
        assert found["tokens"] == len(TOKENS)
        assert {outcome["done"] for outcome in found["workers"].values()} == {4}
        cleared = await client.post(
            "/admin/cache/clear", json={"select": {"everything": True}, "worker": "w1"}
        )
        assert cleared.json()["workers"] == {"w1": {"selected": 4, "done": 4}}
    assert [b.ready(b.keys(4)) for b in benches] == [4, 0]


@pytest.mark.parametrize(
    ("path", "body", "status", "complaint"),
    [
        ("lookup", {"select": {"everything": True, "tokens": [1]}}, 400, "select chunks by one of"),
        ("lookup", {"select": {"tokens": [1]}, "worker": "nobody"}, 404, "no worker 'nobody'"),
        ("lookup", {"select": {"tokens": [1]}, "worker": "bare"}, 400, "no KV layer"),
        ("pin", {"select": {"everything": True}}, 400, "owner"),
        ("lookup", [], 400, "no command"),
    ],
)
async def test_wrong_commands_get_an_error_in_openai_form(
    benches: list[Bench], visit: Any, path: str, body: Any, status: int, complaint: str
) -> None:
    async with visit() as client:
        answer = await client.post(f"/admin/cache/{path}", json=body)
    assert answer.status_code == status
    assert complaint in answer.json()["error"]["message"]


async def test_a_refusal_by_a_store_is_told_per_worker(benches: list[Bench], visit: Any) -> None:
    benches[0].save(benches[0].keys(1))
    body = {"select": {"everything": True}, "source": "memory", "target": "tape"}
    async with visit() as client:
        found = (await client.post("/admin/cache/move", json=body)).json()["workers"]
    assert "tape" in found["w0"]["error"]


async def test_a_worker_that_does_not_answer_is_an_error_of_its_own(
    benches: list[Bench], context: GatewayContext, visit: Any, tmp_path: Path
) -> None:
    info = WorkerInfo("gone", "http://127.0.0.1:9003", kv_control=f"unix://{tmp_path}/nothing.control")
    context.membership.add(info)
    async with visit() as client:
        found = (await client.get("/admin/cache")).json()["workers"]
    assert "does not answer" in found["gone"]["error"]
    assert "tiers" in found["w0"]


async def test_only_administrators_may_ask(benches: list[Bench], secrets: dict[str, str], visit: Any) -> None:
    for who, status in (("user", 403), ("admin", 200)):
        async with visit(secrets[who]) as client:
            assert (await client.get("/admin/cache")).status_code == status
            body = {"select": {"tokens": TOKENS}}
            assert (await client.post("/admin/cache/lookup", json=body)).status_code == status


def test_a_control_server_on_a_network_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(ValueError, match=TOKEN_VARIABLE):
        ControlServer(operator_of(bench), "http://127.0.0.1:1")
    assert control_server(operator_of(bench), "carrier-pigeon://here") is None
    bench.store.close()


def test_a_wrong_token_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    server = control_server(operator_of(bench), f"unix://{tmp_path}/c")
    assert server is not None
    with httpx.Client(transport=httpx.HTTPTransport(uds=f"{tmp_path}/c")) as client:
        assert client.get("http://w/stats").status_code == 401
        good = client.get("http://w/stats", headers={"authorization": "Bearer secret"})
        assert good.status_code == 200
    assert (tmp_path / "c").stat().st_mode & 0o077 == 0
    server.close()
    bench.store.close()
    assert not (tmp_path / "c").exists()


@pytest.fixture
def run(visit: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `sluice cache ...` against the application, without a network."""

    def request(method: str, url: str, **arguments: Any) -> httpx.Response:
        import asyncio

        async def ask() -> httpx.Response:
            arguments.pop("trust_env")
            async with visit() as client:
                return await client.request(method, httpx.URL(url).path, **arguments)

        return asyncio.run(ask())

    monkeypatch.setattr(cli.httpx, "request", request)
    return lambda *words: CliRunner().invoke(cli.app, list(words))


def test_the_command_line_shows_and_steers(benches: list[Bench], run: Any, tmp_path: Path) -> None:
    benches[0].save(benches[0].keys(3))
    shown = run("stats")
    assert shown.exit_code == 0
    assert shown.output.splitlines()[1].split()[:2] == ["memory", "3"]
    key = json.loads(run("list", "--json").output)["workers"]["w0"]["chunks"][0]["key"]
    assert "w0: clear 1 of 1 chunks" in run("clear", "--key", key).output
    assert "w0: pin 2 of 2 chunks" in run("pin", "--all", "--owner", "me").output
    assert "pinned by me" in run("list").output
    assert run("health").output.splitlines() == ["w0: memory ok", "w1: memory ok"]
    refused = run("move", "--all", "--source", "memory", "--target", "tape", "--worker", "w0")
    assert refused.exit_code == 1
    assert "tape" in refused.output
    assert run("clear").exit_code == 2
    assert run("clear", "--all", "--prompt", "x").exit_code == 2


def test_what_is_done_with_a_prompt_is_said_also_where_nothing_of_it_is_kept(
    benches: list[Bench], run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tokenize(self: KvLayer, worker: Any, text: Any) -> list[int]:
        return TOKENS

    monkeypatch.setattr(KvLayer, "tokenize", tokenize)
    benches[0].save(benches[0].keys(3))
    kept = 3 * LAYOUT.block_tokens
    assert run("lookup", "--prompt", "x").output.splitlines() == [
        f"w0: lookup 3 of 4 chunks, {kept} of {len(TOKENS)} tokens (memory {kept})",
        f"w1: lookup 0 of 4 chunks, 0 of {len(TOKENS)} tokens",
    ]
    pinned = run("pin", "--prompt", "x", "--owner", "me", "--worker", "w0")
    assert pinned.output.splitlines() == ["w0: pin 3 of 4 chunks"]
    assert run("unpin", "--prompt", "x", "--owner", "me", "--worker", "w0").exit_code == 0
    assert run("clear", "--prompt", "x", "--worker", "w0").output.splitlines() == ["w0: clear 3 of 4 chunks"]


def test_no_gateway_is_said_in_words() -> None:
    refused = CliRunner().invoke(cli.app, ["stats", "--url", "http://127.0.0.1:9"])
    assert refused.exit_code == 2
    assert "no gateway answers" in refused.output
