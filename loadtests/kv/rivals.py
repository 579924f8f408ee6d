"""What vLLM brings itself for the same purpose, set up as well as it can be on a CPU.

* `OffloadingConnector` with tiers in memory and on disk. Its memory spec wants a GPU: it copies with CUDA
  streams. Everything else is vLLM's own (lookup, eviction, files); only the copy is ours here, a plain
  indexed copy between two tensors, which does it no injustice.
* `ExampleConnector`: a file per layer and prompt, exact prompts only.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from vllm.v1.kv_offload.base import OffloadingWorker, TransferResult
from vllm.v1.kv_offload.cpu.shared_offload_region import SharedOffloadRegion
from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec


class HostWorker(OffloadingWorker):  # type: ignore[misc]
    """Copies blocks between the engine's tensors and the shared region, at once."""

    def __init__(self, kv_caches: Any, region: SharedOffloadRegion) -> None:
        self._engine = [reference.tensor for reference in kv_caches.tensors]
        self._host = [
            region.create_next_worker_view(tensor.stride(0) * tensor.element_size())
            for tensor in self._engine
        ]
        self._done: list[TransferResult] = []

    def submit_store(self, job_id: Any, src_spec: Any, dst_spec: Any) -> bool:
        return self._copy(job_id, self._engine, src_spec.block_ids, self._host, dst_spec.block_ids)

    def submit_load(self, job_id: Any, src_spec: Any, dst_spec: Any) -> bool:
        return self._copy(job_id, self._host, src_spec.block_ids, self._engine, dst_spec.block_ids)

    def get_finished(self) -> list[TransferResult]:
        done, self._done = self._done, []
        return done

    def wait(self, job_ids: Any) -> None:
        """Every copy is finished when it has been submitted."""

    def _copy(self, job_id: Any, source: Any, from_ids: Any, target: Any, to_ids: Any) -> bool:
        begun = time.perf_counter()
        rows, places = (torch.from_numpy(ids.astype("int64")) for ids in (from_ids, to_ids))
        moved = 0
        for one, other in zip(source, target, strict=True):
            content = one[rows]
            other[places] = content.view(other.dtype)
            moved += content.nbytes
        self._done.append(TransferResult(job_id, True, moved, time.perf_counter() - begun))
        return True


class HostTierSpec(TieringOffloadingSpec):  # type: ignore[misc]
    """vLLM's tiers, with memory that a CPU can copy to."""

    def _uses_shared_region(self) -> bool:
        return True

    def get_worker(self, kv_caches: Any) -> HostWorker:
        if not self._worker:
            region = SharedOffloadRegion(
                engine_id=self.config.engine_id,
                num_chunks=self.num_chunks,
                rank=0,
                kv_bytes_per_chunk=self.kv_bytes_per_chunk,
                cpu_page_size=self.cpu_page_size_per_worker,
                barrier=None,
            )
            self._worker = HostWorker(kv_caches, region)
        worker: HostWorker = self._worker
        return worker
