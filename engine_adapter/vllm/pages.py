"""The engine's own KV cache as one array of pages, and the copies between its pages and blocks elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cache.layout import Dtype, KVLayout, KVView

if TYPE_CHECKING:
    import torch

DTYPES: dict[str, Dtype] = {"bfloat16": "bfloat16", "float16": "float16", "float32": "float32"}


class UnknownPages(ValueError):
    """The engine's KV cache is not built in a way that this code has been shown to read."""


class EnginePages:
    """All pages of an engine: `pages[layer][block]` is one page of `page_bytes` bytes.

    Nothing is owned or copied: writing here writes into the engine. Where all layers lie in one allocation at
    equal distances (vLLM's CPU engine), a block is copied with a single strided copy over all layers.
    """

    def __init__(
        self,
        names: Sequence[str],
        layers: Sequence[npt.NDArray[np.uint8]],
        stacked: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.layers = tuple(layers)
        """Per layer [blocks, page_bytes]."""
        self.page_bytes = int(self.layers[0].shape[1])
        self._stacked = stacked
        """The same memory as [layers, blocks, page_bytes], if there is such a view of it."""

    @classmethod
    def of(cls, kv_caches: Mapping[str, torch.Tensor]) -> EnginePages:
        """The pages behind what vLLM hands to `register_kv_caches`: per layer a tensor [blocks, ...].

        Layers that share another's cache appear once. Raises UnknownPages for memory that is not the host's
        or not contiguous per page.
        """
        tensors: dict[int, tuple[str, torch.Tensor]] = {}
        for name, tensor in kv_caches.items():
            _require_host_pages(name, tensor)
            tensors.setdefault(tensor.data_ptr(), (name, tensor))
        if not tensors:
            raise UnknownPages("the engine registered no KV cache")
        own = [tensor for _, tensor in tensors.values()]
        if len({(tuple(tensor.shape), tensor.dtype) for tensor in own}) != 1:
            raise UnknownPages("its layers have pages of different sizes")
        names = [name for name, _ in tensors.values()]
        return cls(names, [_pages_of(tensor) for tensor in own], _stack(own))

    @property
    def blocks(self) -> int:
        return int(self.layers[0].shape[0])

    def view(self, layout: KVLayout, blocks: Sequence[int]) -> KVView:
        """A copy of some blocks as a view that knows keys from values."""
        chosen = list(blocks)
        return KVView(layout, [layer[chosen].view(layout.bits_dtype) for layer in self.layers])

    def read(self, block: int, out: npt.NDArray[np.uint8]) -> None:
        """Copy one block into `out`, which is [layers, page_bytes]."""
        if self._stacked is not None:
            out[:] = self._stacked[:, block]
        else:
            for layer, page in zip(self.layers, out, strict=True):
                page[:] = layer[block]

    def write(self, block: int, source: npt.NDArray[np.uint8]) -> None:
        """Replace one block by `source`, which is [layers, page_bytes]."""
        if self._stacked is not None:
            self._stacked[:, block] = source
        else:
            for layer, page in zip(self.layers, source, strict=True):
                layer[block] = page

    def write_run(self, first: int, step: int, source: npt.NDArray[np.uint8]) -> None:
        """Replace blocks `first`, `first + step`, ... by `source`, which is [blocks, layers, page_bytes]."""
        end = first + step * len(source)
        blocks = slice(first, end if end >= 0 else None, step)
        if self._stacked is not None:
            self._stacked[:, blocks] = source.swapaxes(0, 1)
        else:
            for number, layer in enumerate(self.layers):
                layer[blocks] = source[:, number]


def layout_of(pages: EnginePages, tensor: torch.Tensor, page_format: Any) -> KVLayout:
    """The layout of an engine whose layers are `tensor`-like: [blocks, kv_heads, block_tokens, 2 * head_dim].

    Raises UnknownPages for another shape or element type.
    """
    dtype = DTYPES.get(str(tensor.dtype).removeprefix("torch."))
    if dtype is None:
        raise UnknownPages(f"its elements are {tensor.dtype}; known are {', '.join(DTYPES)}")
    if tensor.dim() != 4 or tensor.shape[-1] % 2:
        raise UnknownPages(
            f"its pages have shape {tuple(tensor.shape)}, not [blocks, heads, tokens, 2 * head size]"
        )
    _, heads, tokens, both = tensor.shape
    return KVLayout(len(pages.names), heads, both // 2, dtype, tokens, page_format)


def _require_host_pages(name: str, tensor: torch.Tensor) -> None:
    if tensor.device.type != "cpu":
        raise UnknownPages(f"its KV cache lies on {tensor.device.type}; this KV layer serves CPU engines")
    if tensor.dim() < 2 or not tensor[0].is_contiguous():
        raise UnknownPages(f"the pages of {name} are not contiguous: strides {tuple(tensor.stride())}")


def _memory_of(tensor: torch.Tensor) -> npt.NDArray[np.uint8]:
    """The allocation behind a tensor from the tensor's first byte on."""
    import torch

    flat = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    memory: npt.NDArray[np.uint8] = flat.numpy()
    return memory[tensor.storage_offset() * tensor.element_size() :]


def _pages_of(tensor: torch.Tensor) -> npt.NDArray[np.uint8]:
    size = tensor.element_size()
    shape = (tensor.shape[0], tensor[0].numel() * size)
    return np.lib.stride_tricks.as_strided(_memory_of(tensor), shape, (tensor.stride(0) * size, 1))


def _stack(tensors: Sequence[torch.Tensor]) -> npt.NDArray[np.uint8] | None:
    """[layers, blocks, page_bytes] over the same memory if the layers lie at equal distances in it."""
    first = tensors[0]
    starts = [tensor.data_ptr() for tensor in tensors]
    steps = {later - earlier for earlier, later in itertools.pairwise(starts)} or {0}
    one_allocation = len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1
    if not one_allocation or len(steps) != 1 or len({tensor.stride() for tensor in tensors}) != 1:
        return None
    step = steps.pop()
    if step < 0:
        return None
    pages = _pages_of(first)
    return np.lib.stride_tricks.as_strided(pages, (len(tensors), *pages.shape), (step, *pages.strides))
