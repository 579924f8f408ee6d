"""Time to first token through vLLM when a prompt's KV lies in a Valkey behind a link of limited rate.

One engine computes the prompts and saves them at every quality; fresh engines then answer them over the link:
exact, at each lossy level, with the level chosen by the time left, and without a KV layer. Engine, connector,
store, codecs and server are real; the link is a token bucket on the loopback.

    python -m loadtests.kv_stream_ttft --json ttft.json
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from engine_adapter.cache_salt import CacheSalt
from engine_adapter.calibration.contexts import BENCH_SEED, worlds
from engine_adapter.demo.family import folder
from engine_adapter.demo.tokenizer import load_tokenizer
from loadtests.bench.kv_servers import valkey
from loadtests.kv import lab
from loadtests.kv.engine import sluice
from loadtests.kv.limited_link import limited_link

MBIT = 1e6 / 8
LEVELS = ("exact", "high", "balanced", "small")
ADAPTIVE, COMPUTED = "adaptive", "computed"
ANSWER_TOKENS = 4

Child = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One prompt, answered once by an engine that had nothing of it."""

    mbit: float
    policy: str
    prompt: int
    seconds: float
    """To the first token."""
    loaded: int
    """Tokens of the prompt that came from Valkey."""
    same_tokens: bool
    """Whether the answer is that of the engine that computed."""


def ask(tokens: Sequence[int], quality: str) -> tuple[tuple[int, ...], float, Mapping[str, int]]:
    """In the child: tokens of the answer, seconds to the first, sources of the prompt."""
    more = {"cache_salt": CacheSalt(quality=quality).encode()}
    answer, seconds = lab._engine().ask(tokens, ANSWER_TOKENS, **more)
    return answer.tokens, seconds, answer.sources


@contextmanager
def engine(model: str, kv: Mapping[str, Any] | None) -> Iterator[Child]:
    """A fresh engine in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:

        def call(function: Callable[..., Any], *arguments: Any) -> Any:
            return pool.submit(function, *arguments).result(600)

        call(lab.start, model, kv)
        yield call
        call(lab.stop)


def measure(
    model: str, prompts: Sequence[Sequence[int]], rates: Sequence[float], slo: float
) -> Iterator[Run]:
    """Every prompt under every policy over every rate."""
    with tempfile.TemporaryDirectory() as directory, valkey(Path(directory)) as url:

        def layer(at: str, stream_seconds: float | None) -> dict[str, Any]:
            link = {"timeout_seconds": 30, "stream_seconds": stream_seconds}
            return sluice(memory={"bytes": 1 << 29}, valkey={"url": at, "link": link})

        expected: list[tuple[int, ...]] = []
        with engine(model, None) as call:
            call(ask, prompts[-1][:64], "exact")  # the first request of an engine is slower than any other
            for number, prompt in enumerate(prompts):
                tokens, seconds, _ = call(ask, prompt, "exact")
                expected.append(tokens)
                for mbit in rates:
                    yield Run(mbit, COMPUTED, number, seconds, 0, True)
        with engine(model, layer(url, slo)) as call:
            for prompt in prompts:
                for quality in LEVELS:
                    call(ask, prompt, quality)
            call(lab.written_through, "valkey")
        with limited_link(url.removeprefix("unix://")) as link:
            at = f"redis://127.0.0.1:{link.port}"
            for mbit in rates:
                link.restart(lambda seconds, rate=mbit: rate * MBIT)  # type: ignore[misc]
                for policies, stream_seconds in (((ADAPTIVE,), slo), (LEVELS, None)):
                    with engine(model, layer(at, stream_seconds)) as call:
                        call(ask, prompts[-1][:64], "exact")
                        for policy in policies:
                            for number, prompt in enumerate(prompts):
                                quality = "small" if policy == ADAPTIVE else policy
                                tokens, seconds, sources = call(ask, prompt, quality)
                                same = tokens == expected[number]
                                yield Run(mbit, policy, number, seconds, sources.get("valkey", 0), same)


def main(
    model: Annotated[str, typer.Option(help="A shipped model's name.")] = "base",
    tokens: Annotated[int, typer.Option(help="Of each prompt.")] = 3400,
    prompts: Annotated[int, typer.Option(help="How many.")] = 4,
    rates: Annotated[str, typer.Option(help="Mbit/s, by commas.")] = "5,20,100",
    slo: Annotated[float, typer.Option(help="Seconds that the adaptive fetch aims at.")] = 0.3,
    out: Annotated[Path | None, typer.Option("--json", help="Write every run here.")] = None,
) -> None:
    """Measure, and print medians as Markdown."""
    place = folder(model)
    texts = [context.prompt for context in worlds(load_tokenizer(place), prompts, [tokens], BENCH_SEED)]
    speeds = [float(text) for text in rates.split(",")]
    runs = list(measure(str(place), texts, speeds, slo))
    typer.echo(f"load {os.getloadavg()[0]:.1f}\n")
    for line in table(runs):
        typer.echo(line)
    if out is not None:
        out.write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")


def table(runs: Sequence[Run]) -> Iterator[str]:
    """One row per rate and policy."""
    yield "| Link | KV | TTFT ms, median (least - most) | prompt tokens loaded | same answer |"
    yield "|---|---|---|---|---|"
    for mbit, policy in dict.fromkeys((run.mbit, run.policy) for run in runs):
        mine = [run for run in runs if (run.mbit, run.policy) == (mbit, policy)]
        times = [1e3 * run.seconds for run in mine]
        yield (
            f"| {mbit:g} Mbit/s | {policy} | {median(times):.0f} ({min(times):.0f} - {max(times):.0f})"
            f" | {median(run.loaded for run in mine):.0f}"
            f" | {sum(run.same_tokens for run in mine)} of {len(mine)} |"
        )


if __name__ == "__main__":
    typer.run(main)
