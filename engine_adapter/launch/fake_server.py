"""`python -m engine_adapter.launch.fake_server FLAGS`: the fake engine with the flags of a real worker."""

from __future__ import annotations

import argparse


def main() -> None:
    """Read the flags and serve until SIGTERM or SIGINT."""
    from engine_adapter.fake import FakeEngineConfig, run
    from engine_adapter.fake.config import KVEventsConfig, PrefixCacheConfig, ServedModel, Timing

    parser = argparse.ArgumentParser(prog="sluice worker --engine fake")
    timing = Timing()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--served-model-name", default="fake")
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--block-size", type=int, default=32, help="tokens per KV block")
    parser.add_argument("--kv-blocks", type=int, default=4096, help="blocks of the prefix cache")
    parser.add_argument("--kv-events", help="ZMQ endpoint to publish KV events at")
    parser.add_argument("--kv-replay", help="ZMQ endpoint to replay KV events at")
    parser.add_argument("--prefill-base", type=float, default=timing.prefill_base_s, help="seconds")
    parser.add_argument("--prefill-rate", type=float, default=timing.prefill_tokens_per_s, help="tokens/s")
    parser.add_argument("--itl", type=float, default=timing.itl_base_s, help="seconds between two tokens")
    parser.add_argument(
        "--itl-slope", type=float, default=timing.itl_slope_s, help="more per running request"
    )
    parser.add_argument("--speed", type=float, default=timing.speed, help="divides every duration")
    parser.add_argument("--answer-tokens", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    events = None
    if flags.kv_events:
        events = KVEventsConfig(endpoint=flags.kv_events, replay_endpoint=flags.kv_replay)
    run(
        FakeEngineConfig(
            host=flags.host,
            port=flags.port,
            models=(ServedModel(flags.served_model_name),),
            max_model_len=flags.max_model_len,
            timing=Timing(
                prefill_base_s=flags.prefill_base,
                prefill_tokens_per_s=flags.prefill_rate,
                itl_base_s=flags.itl,
                itl_slope_s=flags.itl_slope,
                speed=flags.speed,
            ),
            prefix_cache=PrefixCacheConfig(num_blocks=flags.kv_blocks, block_size=flags.block_size),
            kv_events=events,
            answer_tokens=flags.answer_tokens,
            seed=flags.seed,
        )
    )


if __name__ == "__main__":
    main()
