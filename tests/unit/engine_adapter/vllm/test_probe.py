"""Pages are read only where it was seen how the engine's own kernel fills them: each of these engines keeps
keys and values in an order of its own, and only those that are known are served."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_adapter.vllm.pages import EnginePages, UnknownPages  # noqa: E402
from engine_adapter.vllm.probe import probe_layout  # noqa: E402
from engine_adapter.vllm.worker_side import WorkerSide  # noqa: E402

BLOCKS, HEADS, TOKENS, DIM = 4, 2, 8, 16
LAYERS = ("first", "second")

Put = Callable[[Any, int, Any, Any], None]
"""How an engine writes one token: (page as [heads, tokens, 2 * dim], place in the block, keys, values)."""


def plain(page: Any, token: int, keys: Any, values: Any) -> None:
    both = page.view(2, HEADS, TOKENS, DIM)
    both[0, :, token], both[1, :, token] = keys, values


def cpu_vec(page: Any, token: int, keys: Any, values: Any) -> None:
    halves = page.view(HEADS, 2, TOKENS * DIM)
    halves[:, 0].view(HEADS, DIM, TOKENS)[:, :, token] = keys
    halves[:, 1].view(HEADS, TOKENS, DIM)[:, token] = values


def values_first(page: Any, token: int, keys: Any, values: Any) -> None:
    plain(page, token, values, keys)


def fused(page: Any, token: int, keys: Any, values: Any) -> None:
    page.view(TOKENS, HEADS, 2, DIM)[token] = torch.stack((keys, values), dim=1)


def both_transposed(page: Any, token: int, keys: Any, values: Any) -> None:
    halves = page.view(HEADS, 2, DIM, TOKENS)
    halves[:, 0, :, token], halves[:, 1, :, token] = keys, values


def keys_alone(page: Any, token: int, keys: Any, values: Any) -> None:
    plain(page, token, keys, torch.zeros_like(values))


def rounded(page: Any, token: int, keys: Any, values: Any) -> None:
    plain(page, token, keys.to(torch.float8_e4m3fn).to(page.dtype), values)


class Kernel:
    """vLLM's attention module, as far as the probe knows it."""

    def __init__(self, put: Put) -> None:
        self.impl = self
        self._put = put

    def do_kv_cache_update(self, layer: Any, keys: Any, values: Any, cache: Any, slots: Any) -> None:
        for number, slot in enumerate(slots.tolist()):
            self._put(cache[slot // TOKENS], slot % TOKENS, keys[number], values[number])


def caches(dtype: Any = torch.bfloat16, blocks: int = BLOCKS) -> dict[str, Any]:
    torch.manual_seed(7)
    return {name: torch.randn(blocks, HEADS, TOKENS, 2 * DIM).to(dtype) for name in LAYERS}


def probe(kv_caches: dict[str, Any], *puts: Put) -> Any:
    attention = {name: Kernel(put) for name, put in zip(LAYERS, puts * 2, strict=False)}
    return probe_layout(kv_caches, attention, EnginePages.of(kv_caches))


@pytest.mark.parametrize(("put", "found"), [(plain, "plain"), (cpu_vec, "cpu-vec")])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_known_order_is_recognised_and_the_pages_are_put_back(put: Put, found: str, dtype: str) -> None:
    kv_caches = caches(getattr(torch, dtype))
    before = {name: tensor.clone() for name, tensor in kv_caches.items()}
    layout = probe(kv_caches, put)
    assert (layout.page_format, layout.dtype) == (found, dtype)
    assert (layout.layers, layout.kv_heads, layout.head_dim, layout.block_tokens) == (2, HEADS, DIM, TOKENS)
    assert all(torch.equal(kv_caches[name], before[name]) for name in LAYERS)


@pytest.mark.parametrize("put", [values_first, fused, both_transposed, keys_alone, rounded])
def test_an_order_that_changed_is_refused_and_the_pages_are_put_back(put: Put) -> None:
    kv_caches = caches()
    before = {name: tensor.clone() for name, tensor in kv_caches.items()}
    with pytest.raises(UnknownPages, match="in none of the known layouts"):
        probe(kv_caches, put)
    assert all(torch.equal(kv_caches[name], before[name]) for name in LAYERS)


def test_one_layer_of_another_order_is_enough() -> None:
    with pytest.raises(UnknownPages, match="in none of the known layouts"):
        probe(caches(), plain, cpu_vec)


def test_a_kernel_that_raises_is_refused_and_leaves_the_pages_as_they_were() -> None:
    kv_caches = caches()
    before = {name: tensor.clone() for name, tensor in kv_caches.items()}

    def broken(page: Any, token: int, keys: Any, values: Any) -> None:
        page[:] = 0
        raise RuntimeError("unsupported")

    with pytest.raises(UnknownPages, match="unsupported"):
        probe(kv_caches, broken)
    assert all(torch.equal(kv_caches[name], before[name]) for name in LAYERS)


@pytest.mark.parametrize(
    ("kv_caches", "why"),
    [
        ({}, "registered no KV cache"),
        ({"first": torch.zeros(4, 2, 8, 32, device="meta")}, "lies on meta"),
        ({"first": torch.zeros(4, 2, 8, 32, dtype=torch.uint8)}, "elements are torch.uint8"),
        ({"first": torch.zeros(4, 8, 32)}, "have shape"),
        ({"first": torch.zeros(4, 2, 8, 33)}, "have shape"),
        ({"first": torch.zeros(1, 2, 8, 32)}, "too few to probe"),
        ({"first": torch.zeros(4, 2, 8, 32), "second": torch.zeros(4, 2, 8, 64)}, "of different sizes"),
        ({"first": torch.zeros(4, 8, 2, 32).transpose(1, 2)}, "not contiguous"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_memory_of_another_kind_is_refused_in_words(kv_caches: dict[str, Any], why: str) -> None:
    with pytest.raises(UnknownPages, match=why):
        probe(kv_caches, plain)


def test_a_layer_whose_kernel_is_not_known_is_refused() -> None:
    kv_caches = caches()
    attention = {"first": Kernel(plain), "second": SimpleNamespace(impl=object())}
    with pytest.raises(UnknownPages, match="no attention layer second"):
        probe_layout(kv_caches, attention, EnginePages.of(kv_caches))


def test_an_engine_that_is_refused_runs_without_the_layer_and_says_why() -> None:
    side = WorkerSide({name: Kernel(values_first) for name in LAYERS})
    side.register(caches())
    hello = side.hello()
    assert hello.layout is None
    assert "in none of the known layouts" in hello.refusal


def test_a_block_is_read_and_written_in_the_engines_own_memory() -> None:
    kv_caches = caches()
    pages = EnginePages.of(kv_caches)
    block = np.zeros((2, pages.page_bytes), np.uint8)
    pages.read(1, block)
    pages.write(3, block)
    assert all(torch.equal(kv_caches[name][3], kv_caches[name][1]) for name in LAYERS)
