"""Our reading of KV events against vLLM's own classes and publisher."""

from __future__ import annotations

import asyncio
import time

import pytest

from engine_adapter.api import WorkerInfo
from gateway.routing.fleet import Fleet
from gateway.routing.kv_events import KVEventFollower, KVEventSettings
from gateway.routing.router import Router

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]


async def test_vllms_own_publisher_is_followed(unused_tcp_port_factory) -> None:
    vllm = pytest.importorskip("vllm.distributed.kv_events")
    live, replay = (f"tcp://127.0.0.1:{unused_tcp_port_factory()}" for _ in range(2))
    publisher = vllm.ZmqEventPublisher(
        0, live.replace("127.0.0.1", "*"), replay.replace("127.0.0.1", "*"), topic="kv"
    )
    fleet = Fleet()
    follower = KVEventFollower(fleet, Router(fleet), KVEventSettings(audit_s=0.2))
    await follower.start()
    try:

        def publish(*events: object) -> None:
            publisher.publish(vllm.KVEventBatch(ts=time.time(), events=list(events)))

        publish(vllm.BlockStored([11, 12], None, [1] * 32, 16, None, "GPU", None, group_idx=0))
        publish(vllm.BlockStored([b"x" * 32], 12, [1] * 16, 16, 3, "GPU", "adapter", [("adapter",)]))
        fleet.update([WorkerInfo(id="a", url="http://127.0.0.1:1", kv_events=live, kv_replay=replay)])
        for blocks, event in (
            (3, None),
            (2, vllm.BlockRemoved([11], "GPU", group_idx=0)),
            (0, vllm.AllBlocksCleared()),
        ):
            if event is not None:
                publish(event)
            for _ in range(500):
                if follower.reports()[0].blocks == blocks and follower.reports()[0].status == "live":
                    break
                await asyncio.sleep(0.02)
            assert follower.reports()[0].blocks == blocks
        assert follower.reports()[0].lost_batches == 0
    finally:
        await follower.close()
        publisher.shutdown()
