"""Training runs, learns, resumes where it stopped, and is a function of its seed."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from engine_adapter.demo.checkpoint import load_model  # noqa: E402
from engine_adapter.demo.curriculum import Lesson, pairs  # noqa: E402
from engine_adapter.demo.family import MODELS  # noqa: E402
from engine_adapter.demo.model import LlamaShape  # noqa: E402
from engine_adapter.demo.muon import orthogonalise  # noqa: E402
from engine_adapter.demo.recipes import trainer_for  # noqa: E402
from engine_adapter.demo.rows import RECALLED, SILENT, RowWriter  # noqa: E402
from engine_adapter.demo.tokenizer import load_tokenizer  # noqa: E402
from engine_adapter.demo.train import Trainer, TrainSettings, initial_model  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

LESSON = Lesson("pairs-8", ((1, 32),), ((1, pairs(8, 4)),), 2.0, float("inf"))
SETTINGS = TrainSettings(tokens=24 * 512, batch_tokens=512, warmup_steps=4, cooldown=0.0, average=0.5)


def _trainer(settings: TrainSettings = SETTINGS) -> Trainer:
    tokenizer = load_tokenizer(MODELS / "base")
    shape = LlamaShape(tokenizer.get_vocab_size(), 64, 64, 3, 1, 1)
    return Trainer(
        initial_model(shape, tokenizer, settings.seed), tokenizer, settings, (LESSON,), lambda _: None
    )


def test_orthogonalised_updates_have_unit_singular_values() -> None:
    update = torch.randn(3, 24, 40, generator=torch.Generator().manual_seed(0))
    for matrix in orthogonalise(update):
        values = torch.linalg.svdvals(matrix)
        assert values.min() > 0.5
        assert values.max() < 1.4


def test_rows_predict_only_what_was_asked() -> None:
    import random

    writer = RowWriter(load_tokenizer(MODELS / "base"))
    row = writer.pairs(random.Random(0), 40, 16, 4)
    table = {row.ids[i]: row.ids[i + 1] for i in range(1, 9, 2)}
    assert row.roles[:10] == [SILENT] * 10
    for i, role in enumerate(row.roles):
        if role == RECALLED:
            assert table[row.ids[i - 1]] == row.ids[i]
    assert len(row.ids) == len(row.roles) == 40


def test_training_lowers_the_loss_and_writes_a_model(tmp_path: Path) -> None:
    trainer = _trainer()
    first = trainer._step()
    trainer.run(tmp_path)
    assert trainer._step() < first
    assert trainer.progress.tokens >= SETTINGS.tokens
    assert load_model(tmp_path / "model").shape == trainer.model.shape


def test_resumed_run_equals_uninterrupted_run(tmp_path: Path) -> None:
    whole = _trainer()
    for _ in range(6):
        whole._step()
    half = _trainer()
    for _ in range(3):
        half._step()
    half.save(tmp_path)
    rest = _trainer()
    rest.resume(tmp_path / "state.safetensors")
    assert rest.progress == half.progress
    for _ in range(3):
        rest._step()
    for (name, one), (_, other) in zip(
        whole.model.named_parameters(), rest.model.named_parameters(), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-5), name


def test_lessons_advance_on_accuracy() -> None:
    trainer = _trainer()
    trainer.lessons = (Lesson("easy", LESSON.lengths, LESSON.makers, 0.0, 1e9), LESSON)
    trainer._step()
    assert trainer.progress.lesson == 1
    assert trainer.progress.lesson_tokens == 0


def test_unknown_member_is_refused() -> None:
    with pytest.raises(ValueError, match="known are base, draft, clerk, teller"):
        trainer_for("oracle", SETTINGS)
