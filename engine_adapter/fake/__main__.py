"""`python -m engine_adapter.fake`: a fake engine as a process."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from engine_adapter.fake.config import (
    FakeEngineConfig,
    KVEventsConfig,
    PrefixCacheConfig,
    ServedModel,
    Timing,
)
from engine_adapter.fake.engine import run
from engine_adapter.fake.faults import FaultError, parse_header
from engine_adapter.fake.tokens import MIXED, WORDS

_VOCABULARIES = {"words": WORDS, "mixed": MIXED}


def build_parser() -> argparse.ArgumentParser:
    """The command line; its defaults are those of `FakeEngineConfig`."""
    parser = argparse.ArgumentParser(
        prog="python -m engine_adapter.fake",
        description="A deterministic engine with vLLM's HTTP surface and no model. With no timing flags "
        "every answer is immediate.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=9000, help="0 takes a free port (default: %(default)s)")
    add("--control-port", type=int, help="second listener for /fake/* that no fault touches")
    add("--model", action="append", metavar="NAME", help="served name; may be given several times")
    add("--lora", action="append", default=[], metavar="NAME=PATH", help="adapter of the first model")
    add("--max-model-len", type=int, help="context length in tokens")
    add("--max-num-seqs", type=int, default=256, help="requests running at once (default: %(default)s)")
    add("--answer-tokens", type=int, default=64, help="length of an answer that max_tokens does not cut")
    add("--vocabulary", choices=sorted(_VOCABULARIES), default="words", help="`mixed` tries parsers")
    add("--seed", type=int, default=0, help="other seed, other answers")
    add("--keep-alive", type=float, metavar="S", help="close connections idle so long; uvicorn's is 5")
    add("--record-requests", type=int, default=0, metavar="N", help="keep the last N for GET /fake/requests")

    timing = parser.add_argument_group("timing")
    timing.add_argument("--prefill-base", type=float, default=0.0, metavar="S", help="seconds per prefill")
    timing.add_argument("--prefill-rate", type=float, default=math.inf, metavar="TOKENS/S")
    timing.add_argument("--prefill-slots", type=int, default=1, help="prefills at once, 0 = no bound")
    timing.add_argument("--itl", type=float, default=0.0, metavar="S", help="seconds between tokens")
    timing.add_argument("--itl-slope", type=float, default=0.0, metavar="S", help="more per running request")
    timing.add_argument("--speed", type=float, default=1.0, help="divides every duration")

    cache = parser.add_argument_group("KV cache")
    cache.add_argument("--no-prefix-cache", action="store_true", help="hash and cache nothing")
    cache.add_argument("--num-blocks", type=int, default=4096)
    cache.add_argument("--block-size", type=int, default=32)
    cache.add_argument("--hash-seed", default="vllm-none-hash")
    cache.add_argument("--kv-events", metavar="ENDPOINT", help="publish KV events, e.g. tcp://127.0.0.1:5557")
    cache.add_argument("--kv-replay", metavar="ENDPOINT", help="answer replay requests here")
    cache.add_argument("--kv-topic", default="kv")
    cache.add_argument("--lose-kv-events", type=int, default=0, metavar="N", help="lose every N-th batch")

    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="FAULT",
        help="as in the header x-fake-fault, e.g. 'cut; point=mid-chunk; after_events=3; count=2'",
    )
    return parser


def parse_args(arguments: Sequence[str] | None = None) -> FakeEngineConfig:
    """Read the command line; exits with a message if it is wrong."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    try:
        models = [ServedModel(name) for name in args.model or ["fake"]]
        for adapter in args.lora:
            name, _, path = adapter.partition("=")
            models.append(ServedModel(name, root=path or name, parent=models[0].name))
        cache = PrefixCacheConfig(args.num_blocks, args.block_size, args.hash_seed)
        events = None
        if args.kv_events is not None:
            events = KVEventsConfig(
                endpoint=args.kv_events,
                replay_endpoint=args.kv_replay,
                topic=args.kv_topic,
                lose_every=args.lose_kv_events,
            )
        faults = [fault for text in args.fault if (fault := parse_header(text)) is not None]
        return FakeEngineConfig(
            host=args.host,
            port=args.port,
            control_port=args.control_port,
            models=tuple(models),
            max_model_len=args.max_model_len,
            max_num_seqs=args.max_num_seqs,
            timing=Timing(
                prefill_base_s=args.prefill_base,
                prefill_tokens_per_s=args.prefill_rate,
                prefill_slots=args.prefill_slots,
                itl_base_s=args.itl,
                itl_slope_s=args.itl_slope,
                speed=args.speed,
            ),
            prefix_cache=None if args.no_prefix_cache else cache,
            kv_events=events,
            faults=tuple(faults),
            seed=args.seed,
            answer_tokens=args.answer_tokens,
            vocabulary=_VOCABULARIES[args.vocabulary],
            keep_alive_s=args.keep_alive,
            record_requests=args.record_requests,
        )
    except (ValueError, FaultError) as error:
        parser.error(str(error))


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    run(parse_args(arguments))


if __name__ == "__main__":
    main()
