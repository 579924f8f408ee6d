"""Speed of the KV codecs on one core, beside memcpy on the same memory in the same run.

    python loadtests/codec_speed.py [--blocks 8] [--megabytes 64] [--json out.json]

Everything is in bytes of bfloat16 KV, the bytes that an engine would hold, per second of CPU time: the time
that this thread had a core, so that a busy machine blurs the figures little. Chunks are of the shipped base
model's shape; their content is normal numbers, or the model's own KV where calibrated codecs need it. A
figure is the median of five passes over memory that does not fit a cache.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cache.codecs import registry
from cache.codecs.codec import Codec
from cache.layout import KVLayout, KVView, view_of
from kernels import dispatch

PASSES = 5


def rate(work: Callable[[], None], size: int) -> float:
    """GB/s of `size` bytes: the median of some passes after one that does not count."""
    work()
    times = []
    for _ in range(PASSES):
        started = time.thread_time()
        work()
        times.append(time.thread_time() - started)
    return size / statistics.median(times) / 1e9


def memcpy(size: int) -> float:
    """What copying costs: `size` bytes to other memory, all pages touched before."""
    source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)
    return rate(lambda: np.copyto(target, source), size)


def chunks(layout: KVLayout, blocks: int, number: int) -> list[KVView]:
    """Chunks full of normal numbers, each at its position."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(number):
        numbers = rng.standard_normal(blocks * layout.block_bytes // 2, np.float32)
        words = (numbers.view(np.uint32) >> 16).astype(np.uint16)
        made.append(view_of(layout, words.view(np.uint8), blocks, index * blocks * layout.block_tokens))
    return made


def model_chunks(layout: KVLayout, blocks: int, number: int) -> list[KVView]:
    """Chunks of the shipped model's own KV, repeated until there are enough."""
    from engine_adapter.calibration.contexts import BENCH_SEED, worlds
    from engine_adapter.calibration.kv import exact_kv, to_view
    from engine_adapter.demo.checkpoint import load_model
    from engine_adapter.demo.family import folder
    from engine_adapter.demo.tokenizer import load_tokenizer

    model, made = load_model(folder("base")), []
    size = blocks * layout.block_tokens
    for context in worlds(load_tokenizer(folder("base")), 4, [3500], BENCH_SEED):
        kv = exact_kv(model, context.prompt[:-1])
        made += [to_view(layout, kv, at, blocks) for at in range(0, len(context.prompt) - 1 - size, size)]
    return [made[i % len(made)] for i in range(number)]


def codec_rates(codec: Codec, views: list[KVView]) -> dict[str, float]:
    """Whole codec, both ways."""
    layout, blocks = views[0].layout, views[0].blocks
    payloads = [np.empty(codec.bound(layout, blocks), np.uint8) for _ in views]
    sizes = [0] * len(views)
    targets = [view_of(layout, np.zeros(blocks * layout.block_bytes, np.uint8), blocks) for _ in views]

    def encode() -> None:
        for i, view in enumerate(views):
            sizes[i] = codec.encode(view, payloads[i])

    def decode() -> None:
        for payload, taken, target in zip(payloads, sizes, targets, strict=True):
            codec.decode(payload[:taken], target)

    size = len(views) * blocks * layout.block_bytes
    return {"encode": rate(encode, size), "decode": rate(decode, size), "bits": 16 * sum(sizes) / size}


def entropy_rates(views: list[KVView]) -> dict[str, float]:
    """The entropy coder alone: every element of a layer as a symbol, with cachegen's tables."""
    layout, blocks = views[0].layout, views[0].blocks
    channels = 2 * layout.kv_heads * layout.head_dim
    rng = np.random.default_rng(1)
    freqs = np.zeros((16, 256), np.uint16)
    values = np.empty((channels, blocks * layout.block_tokens), np.int16)
    rows = (np.arange(channels) % 16).astype(np.uint8)
    for table, spread in enumerate(np.geomspace(0.3, 2, 16)):
        drawn = np.clip(np.round(rng.laplace(0, spread, 100_000)), -100, 100).astype(np.int64)
        freqs[table] = dispatch.frequencies(np.bincount(drawn + 128, minlength=256))
        part = rows == table
        values[part] = rng.choice(drawn, (int(part.sum()), values.shape[1]))
    starts, slots = dispatch.starts_of(freqs), dispatch.slots_of(freqs)
    out, back = np.empty(4 * values.size + 64, np.uint8), np.empty_like(values)
    taken = dispatch.encode(values, freqs, starts, rows, out)
    times = max(1, 64_000_000 // (2 * values.size))

    def encode() -> None:
        for _ in range(times):
            dispatch.encode(values, freqs, starts, rows, out)

    def decode() -> None:
        for _ in range(times):
            dispatch.decode(out[:taken], slots, rows, back)

    size = times * 2 * values.size
    return {"encode": rate(encode, size), "decode": rate(decode, size), "bits": 8 * taken / values.size}


def calibrated() -> list[tuple[str, Codec]]:
    """Levels of the tables that ship."""
    from cache.calibration.library import default_library
    from engine_adapter.demo.family import folder
    from engine_adapter.vllm.weights import fingerprint

    weights = fingerprint(folder("base")).hex()[:32]
    made = []
    for kind in registry.CALIBRATED:
        digest = default_library().for_model(kind, weights)
        if digest is not None:
            made += [
                (f"{kind} {level}", registry.make(kind, {"tables": digest, "level": level}))
                for level in ("high", "balanced", "small")
            ]
    return made


def table(record: Mapping[str, Any]) -> str:
    """Markdown of what `main` measured."""
    before, after = record["memcpy"]
    lines = [
        f"memcpy {before:.2f} GB/s before, {after:.2f} after; load {record['load']:.1f}; {record['date']}",
        "",
        "| codec | bits/element | encode GB/s | decode GB/s | of memcpy |",
        "|---|---|---|---|---|",
    ]
    for label, row in record["codecs"].items():
        shares = [row[way] / max(before, after) for way in ("encode", "decode")]
        lines.append(
            f"| {label} | {row['bits']:.2f} | {row['encode']:.3f} | {row['decode']:.3f} "
            f"| {shares[0]:.1%}, {shares[1]:.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=8, help="blocks of 32 tokens per chunk")
    parser.add_argument("--megabytes", type=int, default=64, help="memory to walk through per pass")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    dispatch.warm_up()
    layout = KVLayout(4, 3, 64, "bfloat16", 32, "cpu-vec")
    number = max(1, options.megabytes * 1_000_000 // (options.blocks * layout.block_bytes))
    plain = chunks(layout, options.blocks, number)
    copy = memcpy(number * options.blocks * layout.block_bytes)
    found: dict[str, dict[str, float]] = {"entropy coder alone": entropy_rates(plain)}
    for name in ("raw", "lossless", "fp8", "int8", "int4", "int2"):
        found[name] = codec_rates(registry.make(name), plain)
    levels = calibrated()
    if levels:
        real = model_chunks(layout, options.blocks, number)
        found["lossless, model's KV"] = codec_rates(registry.make("lossless"), real)
        for label, codec in levels:
            found[label] = codec_rates(codec, real)
    again = memcpy(number * options.blocks * layout.block_bytes)
    record = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "load": round(os.getloadavg()[0], 1),
        "memcpy": [copy, again],
        "codecs": found,
    }
    print(table(record))
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
