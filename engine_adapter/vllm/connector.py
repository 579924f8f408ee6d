"""vLLM's KV connector: the one class that vLLM knows of us, and where the KV layer is put together.

vLLM is told to load it by module path:

    --kv-transfer-config '{"kv_connector": "SluiceConnector",
                           "kv_connector_module_path": "engine_adapter.vllm.connector",
                           "kv_role": "kv_both", "kv_load_failure_policy": "recompute",
                           "kv_connector_extra_config": {"memory": {"bytes": "2GiB"}}}'

It makes two of them, one beside the scheduler and one beside the model, often in different processes. An
engine that the KV layer does not serve runs as if it had none: the constructor never raises for that, every
call then does nothing, the log says why and the metric `sluice_kv_layer_up` is 0.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorWorkerMetadata,
    SupportsHMA,
)

from cache.keys import EXACT
from cache.operator import Operator
from cache.settings import StoreSettings
from cache.store import Store
from engine_adapter.launch.kv import STATUS
from engine_adapter.vllm.control_server import ControlServer, control_server
from engine_adapter.vllm.eligibility import engine_refusal
from engine_adapter.vllm.namespace import Namespaces, engine_namespace
from engine_adapter.vllm.options import read_options
from engine_adapter.vllm.plan import StepPlan, StepReport, WorkerHello
from engine_adapter.vllm.prometheus import ConnectorStats, PromMetrics
from engine_adapter.vllm.quality import codec_of, prepare_kernels
from engine_adapter.vllm.scheduler_side import SchedulerSide
from engine_adapter.vllm.stats import Totals
from engine_adapter.vllm.worker_side import WorkerSide

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.distributed.kv_events import KVCacheEvent
    from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorStats
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

logger = logging.getLogger("vllm.sluice")

_STATS_SECONDS = 0.25
REFILL_PATIENCE = 2.0
"""Seconds of a start that are given to filling memory from files; then it goes on in the background."""


@dataclass
class Orders(KVConnectorMetadata):  # type: ignore[misc]
    """From the scheduler's half to the worker's, each step."""

    plan: StepPlan


@dataclass
class Report(KVConnectorWorkerMetadata):  # type: ignore[misc]
    """The way back."""

    report: StepReport

    def aggregate(self, other: KVConnectorWorkerMetadata) -> Report:
        if not isinstance(other, Report):
            raise TypeError(f"a report cannot take in a {type(other).__name__}")
        return Report(self.report.merged(other.report))


@dataclass
class Hello(KVConnectorHandshakeMetadata):  # type: ignore[misc]
    """From the worker's half to the scheduler's, once."""

    hello: WorkerHello


class SluiceConnector(KVConnectorBase_V1, SupportsHMA):  # type: ignore[misc]
    """See the module. Methods are vLLM's; what they do is in `SchedulerSide` and `WorkerSide`."""

    def __init__(
        self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._config = vllm_config
        self._scheduler: SchedulerSide | None = None
        self._worker: WorkerSide | None = None
        self._engine_cache: KVCacheManager | None = None
        self._totals = Totals()
        self._stats_sent = (0.0, -1, 0)
        self._control: ControlServer | None = None
        refusal = engine_refusal(vllm_config, kv_cache_config)
        if role is KVConnectorRole.WORKER:
            if refusal is None:
                self._worker = WorkerSide(vllm_config.compilation_config.static_forward_context)
        elif refusal is not None:
            self._say_off(refusal)

    # Beside the model

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        if self._worker is not None:
            self._worker.register(kv_caches)

    def get_handshake_metadata(self) -> KVConnectorHandshakeMetadata | None:
        return Hello(self._worker.hello()) if self._worker is not None else None

    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        super().bind_connector_metadata(connector_metadata)
        if self._worker is not None:
            self._worker.begin()

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        if self._worker is not None and (plan := self._plan()) is not None:
            self._worker.load(plan)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """All layers are there before the model starts."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Chunks are saved over all layers at once, when the last layer is through."""

    def wait_for_save(self) -> None:
        if self._worker is not None and (plan := self._plan()) is not None:
            self._worker.save(plan)

    def get_block_ids_with_load_errors(self) -> set[int]:
        return self._worker.take_failed_blocks() if self._worker is not None else set()

    def build_connector_worker_meta(self) -> KVConnectorWorkerMetadata | None:
        report = self._worker.take_report() if self._worker is not None else None
        return Report(report) if report is not None else None

    # Beside the scheduler

    def set_xfer_handshake_metadata(self, metadata: dict[int, KVConnectorHandshakeMetadata]) -> None:
        """The worker has looked at its pages: open the store, or stay off."""
        answer = metadata.get(0)
        if not isinstance(answer, Hello) or answer.hello.layout is None:
            self._say_off(answer.hello.refusal if isinstance(answer, Hello) else "the worker did not answer")
            return
        layout = answer.hello.layout
        try:
            options = read_options(self._kv_transfer_config.kv_connector_extra_config)
            store = Store(layout, options.store)
        except (ValueError, OSError) as error:
            self._say_off(str(error))
            return
        namespaces = Namespaces(
            engine_namespace(self._config, layout),
            lambda namespace: store.open_namespace(namespace, codec_of(namespace)),
            store.close_namespace,
        )
        prepare_kernels(options.store)
        store.refill(namespaces.digest_of("", EXACT, ""), REFILL_PATIENCE)
        events = self._config.kv_events_config
        self._scheduler = SchedulerSide(
            store,
            namespaces,
            block_tokens=layout.block_tokens,
            chunk_blocks=options.store.chunk_blocks,
            save_decoded=options.save_decoded,
            tell_events=events is not None and events.enable_kv_cache_events,
            recomputes=self._kv_transfer_config.kv_load_failure_policy == "recompute",
        )
        self._totals = self._scheduler.totals
        self._control = control_server(Operator(store, namespaces), options.control)
        if self._engine_cache is not None:
            self._scheduler.bind_engine_cache(self._engine_cache)
        logger.info("%son: %s", STATUS, _tiers_in_words(options.store))

    def bind_kv_cache_manager(self, kv_cache_manager: KVCacheManager) -> None:
        super().bind_kv_cache_manager(kv_cache_manager)
        self._engine_cache = kv_cache_manager
        if self._scheduler is not None:
            self._scheduler.bind_engine_cache(kv_cache_manager)

    def on_new_request(self, request: Request) -> None:
        if self._scheduler is not None:
            self._scheduler.arrived(request)

    def get_num_new_matched_tokens(
        self, request: Request, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        if self._scheduler is None:
            return 0, False
        return self._scheduler.match(request, num_computed_tokens), False

    def update_state_after_alloc(
        self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int
    ) -> None:
        if self._scheduler is not None:
            table = blocks.get_block_ids()[0] if num_external_tokens else ()
            self._scheduler.allocated(request, table, num_external_tokens)

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        return Orders(self._scheduler.plan(scheduler_output) if self._scheduler is not None else StepPlan(0))

    def update_connector_output(self, connector_output: KVConnectorOutput) -> None:
        answer = connector_output.kv_connector_worker_meta
        if self._scheduler is not None and isinstance(answer, Report):
            self._scheduler.reported(answer.report, connector_output.invalid_block_ids)

    def request_finished(self, request: Request, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        """Blocks are never held back: what was to be copied out of them has been by now."""
        if self._scheduler is None:
            return False, None
        sources = self._scheduler.finished(request, block_ids)
        return False, {"sluice": {"prompt_tokens": sources}} if sources else None

    def request_finished_all_groups(
        self, request: Request, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        return self.request_finished(request, block_ids[0] if block_ids else [])

    def reset_cache(self) -> bool | None:
        return self._scheduler.reset() if self._scheduler is not None else None

    def take_events(self) -> Iterable[KVCacheEvent]:
        return list(self._scheduler.take_events()) if self._scheduler is not None else ()

    # Both

    def shutdown(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._worker is not None:
            self._worker.close()
        if self._scheduler is not None:
            self._scheduler.close()
            self._scheduler = None

    def get_kv_connector_stats(self) -> KVConnectorStats | None:
        """Sums since the start, when there is news; vLLM asks after every step."""
        if self._role is not KVConnectorRole.SCHEDULER:
            return None
        now, (sent_at, changes, admissions) = time.monotonic(), self._stats_sent
        totals = self._totals
        busy = self._scheduler is not None and self._scheduler.busy
        waits = busy and totals.admissions == admissions and now - sent_at < _STATS_SECONDS
        if totals.changes == changes or waits:
            return None
        self._stats_sent = (now, totals.changes, totals.admissions)
        return ConnectorStats.of(self._totals, self._scheduler.store.stats() if self._scheduler else None)

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> KVConnectorStats | None:
        return ConnectorStats(data or {})

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: VllmConfig,
        metric_types: dict[Any, Any],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> PromMetrics:
        return PromMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    def _plan(self) -> StepPlan | None:
        if not self.has_connector_metadata():
            return None
        orders = self._get_connector_metadata()
        return orders.plan if isinstance(orders, Orders) and orders.plan.step else None

    def _say_off(self, reason: str) -> None:
        logger.warning("%soff: %s", STATUS, reason)


def _tiers_in_words(settings: StoreSettings) -> str:
    words = [f"memory {settings.memory.bytes / (1 << 20):.0f} MiB"]
    if settings.file is not None:
        words.append(f"files in {settings.file.path}, {settings.file.bytes / (1 << 30):.1f} GiB")
    if settings.valkey is not None:
        words.append("valkey")
    if settings.object is not None:
        words.append(f"objects in {settings.object.url}")
    return ", ".join(words)
