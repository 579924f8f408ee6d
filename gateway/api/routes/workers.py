"""`/admin/workers`: see, add, remove and drain workers. A change is in force in every gateway process."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from engine_adapter.api import WorkerInfo
from gateway.api.context import GatewayContext
from gateway.api.routes.health import worker_state
from gateway.errors import InvalidRequest, NotFound
from gateway.relay.membership import MembershipError
from gateway.routing.fleet import Worker

log = structlog.get_logger(__name__)


class NewWorker(BaseModel):
    """A server that speaks OpenAI's API, started by somebody else."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(examples=["http://127.0.0.1:8000"])
    id: str | None = Field(default=None, description="Default: host and port of the URL.", max_length=128)
    kv_events: str | None = Field(default=None, description="ZMQ PUB endpoint of the engine's KV events.")
    kv_replay: str | None = Field(default=None, description="ZMQ ROUTER endpoint that replays them.")


def routes(context: GatewayContext) -> APIRouter:
    """`/admin/workers`: the fleet shown and changed at run time."""
    router = APIRouter(prefix="/admin/workers", tags=["admin"])
    membership = context.membership
    fleet = membership.fleet

    @router.get("", summary="List workers")
    async def list_workers() -> dict[str, Any]:
        return {"workers": [_describe(context, worker) for worker in fleet]}

    @router.post("", status_code=201, summary="Add a worker")
    async def add_worker(new: NewWorker) -> dict[str, Any]:
        """It gets requests as soon as it answers `/health` and `/v1/models`."""
        worker_id = new.id or urlsplit(new.url).netloc.rpartition("@")[2]
        if not worker_id or "/" in worker_id:
            raise InvalidRequest(f"{new.url!r} is not a URL like http://127.0.0.1:8000", param="url")
        info = WorkerInfo(worker_id, new.url, kv_events=new.kv_events, kv_replay=new.kv_replay)
        try:
            worker = membership.add(info)
        except MembershipError as error:
            raise InvalidRequest(str(error)) from error
        log.info("worker added", worker=worker.id, url=worker.url)
        return _describe(context, worker)

    @router.delete("/{worker_id}", summary="Remove a worker")
    async def remove_worker(worker_id: str) -> dict[str, Any]:
        """Its running requests go on. Drain it first to see them end."""
        worker = known(worker_id)
        membership.remove(worker_id)
        log.info("worker removed", worker=worker_id)
        return {"id": worker_id, "removed": True, "in_flight": worker.in_flight}

    @router.post("/{worker_id}/drain", summary="Send no new requests to a worker")
    async def drain_worker(worker_id: str) -> dict[str, Any]:
        """Running requests end as usual; `in_flight` says how many are left in this process."""
        worker = known(worker_id)
        membership.drain(worker_id)
        log.info("worker draining", worker=worker_id)
        return _describe(context, worker)

    @router.post("/{worker_id}/undrain", summary="Send requests to a drained worker again")
    async def undrain_worker(worker_id: str) -> dict[str, Any]:
        worker = known(worker_id)
        membership.undrain(worker_id)
        log.info("worker no longer draining", worker=worker_id)
        return _describe(context, worker)

    def known(worker_id: str) -> Worker:
        worker = fleet.workers.get(worker_id)
        if worker is None:
            raise NotFound(
                f"There is no worker {worker_id!r}; GET /admin/workers lists them.", param="worker_id"
            )
        return worker

    return router


def _describe(context: GatewayContext, worker: Worker) -> dict[str, Any]:
    return {
        "id": worker.id,
        "url": worker.url,
        "models": list(worker.models),
        "max_model_len": worker.max_model_len,
        "state": worker_state(context, worker),
        "health": worker.health,
        "breaker": worker.breaker,
        "draining": context.membership.is_draining(worker.id),
        "message": worker.message,
        "generation": worker.generation,
        "in_flight": worker.in_flight,
    }
