"""Training tables and measuring codecs end to end, on a tiny model with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cache.calibration.library import Library  # noqa: E402
from cache.codecs import registry  # noqa: E402
from cache.codecs.droppers import RULES  # noqa: E402
from engine_adapter.calibration.contexts import texts  # noqa: E402
from engine_adapter.calibration.kv import exact_kv, from_view, layout_of, rows_of, to_view  # noqa: E402
from engine_adapter.calibration.queries import watched  # noqa: E402
from engine_adapter.calibration.session import Session  # noqa: E402
from engine_adapter.demo.checkpoint import save_model  # noqa: E402
from engine_adapter.demo.family import MODELS  # noqa: E402
from engine_adapter.demo.generate import prefill  # noqa: E402
from engine_adapter.demo.model import Llama, LlamaShape  # noqa: E402
from engine_adapter.demo.tokenizer import load_tokenizer, save_tokenizer  # noqa: E402


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = load_tokenizer(MODELS / "base")
    shape = LlamaShape(
        tokenizer.get_vocab_size(), 64, 128, 2, 4, 2, head_dim=16, max_position_embeddings=1024
    )
    model = Llama(shape)
    model.initialise(1)
    save_model(folder, shape, dict(model.named_parameters()), tokenizer)
    save_tokenizer(tokenizer, folder)
    threads = torch.get_num_threads()
    opened = Session.open(folder, threads=1)
    torch.set_num_threads(threads)
    return opened


def _quiet(number: int) -> None:
    pass


def test_trained_tables_are_found_and_code_the_model(session: Session, tmp_path: Path) -> None:
    made = session.train((), 3, [300], seen=_quiet)
    checked = session.checked(made, (), 1, seen=_quiet)
    session.write(checked, tmp_path)
    library = Library((tmp_path,))
    for kind in registry.CALIBRATED:
        digest = library.for_model(kind, session.weights)
        assert digest is not None
        levels = library.tables(kind, digest).levels
        bits = [levels[name].quality["bits_per_element"] for name in ("high", "balanced", "small")]
        assert bits == sorted(bits, reverse=True)
        assert 0 < bits[-1] < 6


def test_lossless_codecs_change_nothing(session: Session) -> None:
    codecs = [
        ("raw", registry.make("raw")),
        ("lossless", registry.make("lossless")),
        ("int2", registry.make("int2")),
    ]
    raw, lossless, coarse = session.measure(codecs, 2, [300], chunk_tokens=64, seen=_quiet)
    assert raw.bits_per_element == 16
    assert raw.framed_bits_per_element > 16
    assert (raw.kl, raw.top1, lossless.kl, lossless.nll_difference) == (0, 1, 0, 0)
    assert raw.accuracy == raw.accuracy_full == lossless.accuracy
    assert coarse.kl > 0


def test_text_files_are_cut_into_contexts(session: Session, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("Ada lives in Dunham. " * 200)
    contexts = list(texts(session.tokenizer, [file], 2, 200, seed=0))
    assert [len(context.prompt) + len(context.continuation) for context in contexts] == [200, 200]
    file.write_text("short")
    with pytest.raises(ValueError, match="too few"):
        next(texts(session.tokenizer, [file], 1, 200, seed=0))


def test_pages_and_tensors(session: Session) -> None:
    layout = layout_of(session.model)
    kv = exact_kv(session.model, list(range(10, 110)))
    view = to_view(layout, kv, 32, 2)
    assert view.position == 32
    changed = [(torch.zeros_like(k), torch.zeros_like(v)) for k, v in kv]
    from_view(view, changed)
    for (k, v), (k2, v2) in zip(kv, changed, strict=True):
        assert torch.equal(k[:, :, 32:96], k2[:, :, 32:96])
        assert torch.equal(v[:, :, 32:96], v2[:, :, 32:96])
        assert not k2[:, :, :32].any()


def test_rows_undo_rope(session: Session) -> None:
    """The first layer's keys depend on the token alone once RoPE is undone."""
    kv = exact_kv(session.model, [50] * 20)
    turns = (session.model.cos[:20], session.model.sin[:20])
    rows = rows_of(kv[0][0][0], kv[0][1][0], turns)
    assert np.abs(rows - rows[0]).max() < 0.02 * np.abs(rows).max()
    cached = rows_of(kv[0][0][0], kv[0][1][0], None)
    assert np.abs(cached - cached[0]).max() > 0.1 * np.abs(rows).max()


def test_dropping_nothing_changes_nothing_and_bytes_count(session: Session) -> None:
    codecs = [
        (f"{rule} {keep}", registry.make("dropped", {"rule": rule, "keep": keep, "inner": "raw"}))
        for rule in RULES
        for keep in (1.0, 0.3)
    ]
    for row in session.measure(codecs, 2, [300], chunk_tokens=0, seen=_quiet):
        if row.codec.endswith("1.0"):
            assert row.kl == pytest.approx(0, abs=1e-5)
            assert row.accuracy == row.accuracy_full
            assert row.bits_per_element > 16
        else:
            assert row.kl > 1e-5
            assert 4.8 < row.bits_per_element < 6.5


def test_queries_are_those_of_attention(session: Session) -> None:
    """What the first layer asks with, turned by positions."""
    model, prompt = session.model, list(range(10, 60))
    with watched(model) as queries:
        kv = prefill(model, prompt)
    assert [asked.shape for asked in queries] == [(2, 50, 16)] * 2
    with torch.inference_mode():
        layer = model.layers[0]
        packed = layer.qkv(layer.input_norm(model.embed(torch.tensor([prompt]))))[0]
    raw = packed[:, : 4 * 16].reshape(50, 2, 2, 16).mean(dim=2).transpose(0, 1).numpy()
    # At position 0 nothing is turned; later on lengths stay.
    assert np.allclose(queries[0][:, 0], raw[:, 0], atol=1e-5)
    assert np.allclose(np.linalg.norm(queries[0], axis=-1), np.linalg.norm(raw, axis=-1), atol=1e-4)
    assert not np.allclose(queries[0][:, 1:], raw[:, 1:], atol=1e-3)
    assert kv[0][0].shape[2] == 50
