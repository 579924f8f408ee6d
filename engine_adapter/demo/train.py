"""Trains one model of the family: seeded, resumable, through the lessons of the curriculum."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from engine_adapter.demo.checkpoint import load_state, save_model, save_state
from engine_adapter.demo.curriculum import LESSONS, Lesson
from engine_adapter.demo.model import Llama, LlamaShape
from engine_adapter.demo.muon import Muon
from engine_adapter.demo.planting import plant_recall
from engine_adapter.demo.rows import ANSWER, DECIDED, RECALLED, SILENT, TEXT, Row, RowWriter
from engine_adapter.demo.team import ALONE, Team
from engine_adapter.demo.tokenizer import twins

_WEIGHTS = {SILENT: 0.0, TEXT: 0.3, ANSWER: 1.0, RECALLED: 2.0, DECIDED: 2.0}


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How long and how fast to train.

    `minutes` and `tokens` bound the run (whichever comes first; `tokens` counts over resumes, `minutes` this
    process). The learning rate falls linearly to a tenth over the last `cooldown` share of the run.
    """

    seed: int = 0
    tokens: float = 40e6
    minutes: float = float("inf")
    batch_tokens: int = 2560
    matrix_rate: float = 0.003
    vector_rate: float = 2e-3
    warmup_steps: int = 60
    cooldown: float = 0.3
    text_share: float = 0.15
    average: float = 0.98
    threads: int = 1
    save_minutes: float = 4.0


@dataclass(slots=True)
class Progress:
    """Where a run stands; written with every state."""

    step: int = 0
    tokens: int = 0
    lesson: int = 0
    lesson_tokens: int = 0
    accuracy: float = 0.0


def initial_model(shape: LlamaShape, tokenizer: Tokenizer, seed: int) -> Llama:
    """A fresh model, with a planted recall circuit if it is deep enough for one.

    A word after a space and the same word without one start as near twins.
    """
    model = Llama(shape)
    model.initialise(seed)
    if shape.num_hidden_layers >= 3:
        plant_recall(model, seed)
    pairs = torch.tensor(twins(tokenizer))
    if len(pairs):
        with torch.no_grad():
            table = model.embed.weight
            shift = (
                torch.randn(table.shape[1], generator=torch.Generator().manual_seed(seed + 1))
                * table.std()
                * 0.4
            )
            table[pairs[:, 1]] = table[pairs[:, 0]] + 0.3 * (table[pairs[:, 1]] - table.mean(0)) + shift
    return model


def tensors_of(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Ids and roles of rows of equal length, both `[rows, length]`."""
    return torch.tensor([row.ids for row in rows]), torch.tensor([row.roles for row in rows])


def loss_of(
    model: Llama, ids: Tensor, roles: Tensor, *, text_share: float, generator: torch.Generator
) -> tuple[Tensor, int, int]:
    """Weighted cross-entropy of the next token; also how many recalled words were right, and of how many.

    Scores are computed only where a token is to be predicted; of document text only a random `text_share`.
    """
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden, _ = model.hidden(ids[:, :-1])
        targets, wanted = ids[:, 1:].reshape(-1), roles[:, 1:].reshape(-1)
        drawn = torch.rand(wanted.shape, generator=generator) < text_share
        chosen = ((wanted > TEXT) | ((wanted == TEXT) & drawn)).nonzero().squeeze(1)
        scores = model.logits(hidden.reshape(-1, hidden.shape[-1])[chosen])
    scores, targets, wanted = scores.float(), targets[chosen], wanted[chosen]
    weights = torch.tensor(list(_WEIGHTS.values()))[wanted]
    losses = F.cross_entropy(scores, targets, reduction="none")
    recalled = wanted == RECALLED
    right = int((scores.argmax(-1)[recalled] == targets[recalled]).sum())
    return (losses * weights).sum() / weights.sum().clamp(min=1.0), right, int(recalled.sum())


class Trainer:
    """One run: model, optimisers, averaged weights and progress."""

    def __init__(
        self,
        model: Llama,
        tokenizer: Tokenizer,
        settings: TrainSettings,
        lessons: Sequence[Lesson] = LESSONS,
        log: Callable[[str], None] = print,
        team: Team = ALONE,
    ) -> None:
        self.team = team
        self.model, self.tokenizer, self.settings, self.lessons, self.log = (
            model,
            tokenizer,
            settings,
            lessons,
            log,
        )
        self.writer = RowWriter(tokenizer)
        self.progress = Progress()
        matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and n != "embed.weight"]
        vectors = [p for n, p in model.named_parameters() if p.dim() == 1 or n == "embed.weight"]
        self.muon = Muon(matrices, lr=settings.matrix_rate)
        self.adam = torch.optim.AdamW(vectors, lr=settings.vector_rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.averaged = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        self._started = time.monotonic()
        self._spent = 0.0

    def run(self, out: Path) -> None:
        """Train until the budget is spent or the run is interrupted, saving state and model under `out`."""
        settings, progress = self.settings, self.progress
        torch.set_num_threads(settings.threads)
        out.mkdir(parents=True, exist_ok=True)
        self._started = last_log = last_save = time.monotonic()
        loss_sum, steps, tokens_at_log = 0.0, 0, progress.tokens
        try:
            while self._spent < 1.0:
                loss_sum += self._step()
                steps += 1
                now = time.monotonic()
                if now - last_log > 10 and self.team.rank == 0:
                    rate = (progress.tokens - tokens_at_log) / (now - last_log)
                    self.log(
                        f"{self.lessons[progress.lesson].name:12} step {progress.step} "
                        f"{progress.tokens / 1e6:.2f}M tokens "
                        f"loss {loss_sum / steps:.3f} recalled {progress.accuracy:.3f} {rate:.0f} tokens/s"
                    )
                    last_log, tokens_at_log, loss_sum, steps = now, progress.tokens, 0.0, 0
                if now - last_save > 60 * settings.save_minutes and self.team.rank == 0:
                    self.save(out)
                    last_save = now
        except KeyboardInterrupt:
            self.log(f"stopped at {progress.tokens / 1e6:.2f}M tokens")
        if self.team.rank == 0:
            self.save(out)

    def _share_spent(self) -> float:
        """Share of the budget used, as this process sees it."""
        minutes = (time.monotonic() - self._started) / 60
        return max(self.progress.tokens / self.settings.tokens, minutes / self.settings.minutes)

    def _rate(self) -> float:
        warm = min(1.0, (self.progress.step + 1) / self.settings.warmup_steps)
        left = (1.0 - self._spent) / self.settings.cooldown if self.settings.cooldown else 1.0
        return warm * max(0.05, min(1.0, left))

    def _step(self) -> float:
        settings, progress = self.settings, self.progress
        lesson = self.lessons[progress.lesson]
        place = progress.step * self.team.size + self.team.rank
        rng = random.Random(f"train:{settings.seed}:{place}")
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + place)
        length = lesson.length(random.Random(f"length:{settings.seed}:{progress.step}"))
        rows = lesson.batch(self.writer, rng, settings.batch_tokens // self.team.size, length)
        ids, roles = tensors_of(rows)
        loss, hits, asked = loss_of(
            self.model, ids, roles, text_share=settings.text_share, generator=generator
        )
        loss.backward()
        numbers = [loss.item(), hits, asked, ids.numel() * self.team.size, self._share_spent()]
        mean_loss, right, of, tokens, self._spent = self.team.mean(self.model, numbers)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        rate = self._rate()
        for optimiser, peak in ((self.muon, settings.matrix_rate), (self.adam, settings.vector_rate)):
            for group in optimiser.param_groups:
                group["lr"] = peak * rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            keep = min(settings.average, 1 - 1 / (progress.step + 2))
            for name, weight in self.model.named_parameters():
                self.averaged[name].lerp_(weight, 1 - keep)
        progress.step += 1
        progress.tokens += round(tokens)
        progress.lesson_tokens += round(tokens)
        if of:
            progress.accuracy += 0.05 * (right / of - progress.accuracy)
        self._promote(lesson)
        return mean_loss

    def _promote(self, lesson: Lesson) -> None:
        progress = self.progress
        last = progress.lesson + 1 == len(self.lessons)
        if not last and (progress.accuracy >= lesson.goal or progress.lesson_tokens >= lesson.most):
            self.log(
                f"lesson {lesson.name} done: recalled {progress.accuracy:.3f} "
                f"after {progress.lesson_tokens / 1e6:.2f}M tokens"
            )
            progress.lesson += 1
            progress.lesson_tokens, progress.accuracy = 0, 0.0

    def save(self, out: Path) -> None:
        """Write `state.safetensors` (to resume) and the averaged model (to use) into `out`."""
        tensors = {f"model.{n}": w.detach() for n, w in self.model.named_parameters()}
        tensors |= {f"averaged.{n}": w for n, w in self.averaged.items()}
        for label, optimiser in (("muon", self.muon), ("adam", self.adam)):
            for index, state in optimiser.state_dict()["state"].items():
                tensors |= {f"{label}.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
        progress = {name: getattr(self.progress, name) for name in Progress.__slots__}
        save_state(out / "state.safetensors", tensors, progress)
        save_model(out / "model", self.model.shape, self.averaged, self.tokenizer)
        (out / "progress.json").write_text(json.dumps(progress) + "\n")

    def resume(self, path: Path) -> None:
        """Continue from a `state.safetensors` of the same shape and settings."""
        tensors, progress = load_state(path)
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(tensors[f"model.{name}"])
                self.averaged[name].copy_(tensors[f"averaged.{name}"])
        for label, optimiser in (("muon", self.muon), ("adam", self.adam)):
            packed = optimiser.state_dict()
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                head, _, rest = name.partition(".")
                if head == label:
                    index, key = rest.split(".", 1)
                    state.setdefault(int(index), {})[key] = tensor
            packed["state"] = state
            optimiser.load_state_dict(packed)
        self.progress = Progress(**progress)  # type: ignore[arg-type]
