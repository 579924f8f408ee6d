"""`sluice demo`: train, measure and try the models that ship with the project.

torch is imported inside the commands that run a model, so `--help` and measuring through an API need none.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from engine_adapter.demo.family import FAMILY, MODELS, folder, model_folder

app = typer.Typer(no_args_is_help=True, add_completion=False)

ModelOption = Annotated[str, typer.Option("--model", help="Member of the family, or a model folder.")]


def _model_folder(model: str) -> Path:
    """Where `--model` lies; what is none is told as a wrong option."""
    try:
        return model_folder(model)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error


@app.callback()
def demo() -> None:
    """The small models that ship with the project: try, measure, train.

    Ask one, measure it on fresh questions, make one like it:

        sluice demo sample "Hello, who are you?"
        sluice demo eval --model base --task one_hop --cases 10
        sluice demo train base --out /tmp/base --minutes 60

    They run in this process, without a gateway. `sluice serve` serves `base` by itself.
    """


@app.command()
def tokenizer(
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    seed: Annotated[int, typer.Option(help="Seed of the training text.")] = 0,
) -> None:
    """Train the family's tokenizer and write its files and the chat template."""
    from engine_adapter.demo.tokenizer import save_tokenizer, train_tokenizer

    out.mkdir(parents=True, exist_ok=True)
    trained = train_tokenizer(seed)
    save_tokenizer(trained, out)
    typer.echo(f"{trained.get_vocab_size()} tokens written to {out}")


@app.command()
def train(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(FAMILY)}.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the training state and the model; outside the repository.")
    ],
    tokens: Annotated[float, typer.Option(help="Tokens to train on, over all resumes.")] = 40e6,
    minutes: Annotated[float, typer.Option(help="Stop this process after so long.")] = 180.0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    batch_tokens: Annotated[int, typer.Option(help="Tokens of a step.")] = 2560,
    seed: Annotated[int, typer.Option(help="Seed of weights and data.")] = 0,
    cooldown: Annotated[float, typer.Option(help="Share of the run over which the rate falls.")] = 0.3,
    parent: Annotated[
        Path | None, typer.Option(help="Model folder to start from instead of the usual one.")
    ] = None,
) -> None:
    """Train a model; run the same command again to resume, or under `torchrun --nproc-per-node N` for a team.

    The model that can be used is in OUT/model at any time.
    """
    from engine_adapter.demo.recipes import trainer_for
    from engine_adapter.demo.team import Team
    from engine_adapter.demo.train import TrainSettings

    if name not in FAMILY:
        raise typer.BadParameter(f"{name!r} is no model of the family; known are {', '.join(FAMILY)}")
    settings = TrainSettings(
        seed=seed,
        tokens=tokens,
        minutes=minutes,
        threads=threads,
        cooldown=cooldown,
        batch_tokens=batch_tokens,
    )

    def log(line: str) -> None:
        typer.echo(f"{time.strftime('%H:%M:%S')} {line}")

    trainer = trainer_for(name, settings, parent=parent, log=log, team=Team.join(os.environ))
    state = out / "state.safetensors"
    if state.is_file():
        trainer.resume(state)
        log(f"resumed at {trainer.progress.tokens / 1e6:.2f}M tokens")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    trainer.run(out)


@app.command("eval")
def evaluate(
    model: ModelOption = "base",
    url: Annotated[
        str | None, typer.Option(help="Ask an OpenAI-compatible server instead of running in process.")
    ] = None,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", help="Only these tasks (repeat the option).")
    ] = None,
    lengths: Annotated[list[int] | None, typer.Option("--length", help="Document lengths in tokens.")] = None,
    cases: Annotated[int, typer.Option(help="Cases per task and length.")] = 40,
    control: Annotated[int, typer.Option(help="Cases that are also asked without their evidence.")] = 10,
    wording: Annotated[
        str,
        typer.Option(help="seen: the plain phrasings; varied: all of the training; unseen: held-out ones."),
    ] = "seen",
    seed: Annotated[int, typer.Option(help="Seed of the worlds.")] = 0,
    kv: Annotated[
        str | None, typer.Option(help="Compare a KV source, package.module:function, with full prefill.")
    ] = None,
    draft: Annotated[
        str | None, typer.Option(help="Measure how many tokens of the replies this model foresees.")
    ] = None,
    stories: Annotated[
        int, typer.Option(help="Measure the perplexity of this many half-told documents.")
    ] = 0,
    out: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file.")] = None,
) -> None:
    """Measure accuracy per task and context length, and what another way to obtain the KV changes."""
    import httpx

    from engine_adapter.demo.answerers import OpenAIAnswerer, in_process
    from engine_adapter.demo.bench import Answer, known_tasks, measure, table
    from engine_adapter.demo.bench import cases as make_cases
    from engine_adapter.demo.chat import END
    from engine_adapter.demo.tokenizer import load_tokenizer, special_id

    if wording not in {"seen", "varied", "unseen"}:
        raise typer.BadParameter(f"{wording!r} is not seen, varied or unseen", param_hint="--wording")
    try:
        names = known_tasks(tasks or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--task") from error
    path = _model_folder(model) if url is None or Path(model).is_dir() or model in FAMILY else folder("base")
    encoder = load_tokenizer(path)

    def count(text: str) -> int:
        return len(encoder.encode(text, add_special_tokens=False).ids)

    scores = []
    wanted = lengths or [256, 1024, 2048, 3500]
    with contextlib.ExitStack() as stack:
        answer: Answer
        if url is None:
            answer = in_process(path)
        else:
            answer = remote = stack.enter_context(OpenAIAnswerer(url, model))
            try:
                remote.find_model()
            except (LookupError, httpx.HTTPError) as error:
                raise typer.BadParameter(f"{url}: {error}", param_hint="--url") from error
        for length in wanted:
            for task in names:
                made = list(make_cases(task, length, cases, count, seed=seed, split=wording))
                scores.append(measure(made, answer, control=control))
                typer.echo(json.dumps(scores[-1].record()))
    typer.echo("\n" + table(scores))
    result: dict[str, object] = {"model": model, "wording": wording, "scores": [s.record() for s in scores]}
    if kv is not None or draft is not None or stories:
        from engine_adapter.demo.checkpoint import load_model
        from engine_adapter.demo.fidelity import compare, foreseen, perplexity, source
        from engine_adapter.demo.stories import continuations, examples

        loaded = load_model(path)
        asked = examples(encoder, number=cases, length=wanted[0], seed=seed)
        if kv is not None:
            result["kv"] = {"source": kv, **compare(loaded, source(kv), asked).record()}
        if draft is not None:
            end = special_id(encoder, END)
            right, of = foreseen(loaded, load_model(_model_folder(draft)), [p for p, _ in asked], end=end)
            result["draft"] = {"model": draft, "foreseen": right, "of": of}
        if stories:
            told = continuations(encoder, number=stories, length=wanted[0], seed=seed)
            result["perplexity"] = round(perplexity(loaded, told), 3)
        typer.echo(
            json.dumps({name: result[name] for name in ("kv", "draft", "perplexity") if name in result})
        )
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n")


@app.command("random-llama")
def random_llama(
    out: Annotated[Path, typer.Option(help="Folder to write to; outside the repository.")],
    parameters: Annotated[float, typer.Option(help="Size wanted; the nearest shape is used.")] = 80e6,
    seed: Annotated[int, typer.Option(help="Seed of the weights.")] = 0,
) -> None:
    """Write a Llama with random weights for load tests."""
    from engine_adapter.demo.random_llama import write_random_llama

    shape = write_random_llama(out, parameters=parameters, seed=seed, tokenizer_from=MODELS / "base")
    typer.echo(f"{shape.parameters() / 1e6:.1f}M parameters written to {out}")


@app.command()
def sample(
    prompt: Annotated[str, typer.Argument(help="What the user says.")],
    model: ModelOption = "base",
    document: Annotated[
        Path | None, typer.Option(help="A text file to ask about.", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Print a model's reply."""
    from engine_adapter.demo.answerers import in_process
    from engine_adapter.demo.chat import Segment

    read = [Segment("document", document.read_text())] if document is not None else []
    typer.echo(in_process(_model_folder(model))([*read, Segment("user", prompt)]))
