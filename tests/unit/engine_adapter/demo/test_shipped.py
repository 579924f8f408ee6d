"""What ships is small, complete, of one family, and speaks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine_adapter.demo.family import FAMILY, MODELS, folder, model_folder

pytestmark = pytest.mark.usefixtures("one_thread")

SHIPPED = sorted(path.name for path in MODELS.iterdir())


def _config(name: str) -> dict[str, object]:
    config: dict[str, object] = json.loads((MODELS / name / "config.json").read_text())
    return config


def test_base_ships_and_every_model_is_known() -> None:
    assert "base" in SHIPPED
    assert set(SHIPPED) <= set(FAMILY)


def test_weights_are_small() -> None:
    sizes = {name: (MODELS / name / "model.safetensors").stat().st_size for name in SHIPPED}
    assert sum(sizes.values()) <= 20e6
    assert sizes["base"] <= 8.1e6
    if "draft" in sizes:
        assert sizes["draft"] <= sizes["base"] / 6


@pytest.mark.parametrize("name", SHIPPED)
def test_folder_is_complete(name: str) -> None:
    files = {path.name for path in (MODELS / name).iterdir()}
    assert files == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


@pytest.mark.parametrize("name", SHIPPED)
def test_configuration_is_one_vllm_loads(name: str) -> None:
    config, member = _config(name), FAMILY[name]
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["max_position_embeddings"] == 4096
    assert config["head_dim"] == 64
    assert config["tie_word_embeddings"] is True
    assert config["hidden_size"] == member.hidden_size
    assert config["num_hidden_layers"] == member.num_hidden_layers


@pytest.mark.parametrize("name", SHIPPED)
def test_the_family_shares_its_tokenizer(name: str) -> None:
    base = (MODELS / "base" / "tokenizer.json").read_bytes()
    assert (MODELS / name / "tokenizer.json").read_bytes() == base
    assert _config(name)["vocab_size"] == _config("base")["vocab_size"]


@pytest.mark.parametrize("name", [name for name in ("clerk", "teller") if name in SHIPPED])
def test_siblings_have_the_shape_of_base(name: str) -> None:
    assert _config(name) == _config("base")


def test_folder_errors_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model of the family"):
        folder("oracle")
    monkeypatch.setattr("engine_adapter.demo.family.MODELS", tmp_path)
    with pytest.raises(FileNotFoundError, match="sluice demo train base"):
        folder("base")


def test_a_model_is_given_by_name_or_as_a_directory(tmp_path: Path) -> None:
    assert model_folder("base") == MODELS / "base"
    assert model_folder(str(MODELS / "draft")) == MODELS / "draft"
    with pytest.raises(ValueError, match="a directory with a model is taken too"):
        model_folder("oracle")
    with pytest.raises(FileNotFoundError, match="holds no model"):
        model_folder(str(tmp_path))


def test_base_answers_in_words() -> None:
    pytest.importorskip("torch")
    from engine_adapter.demo.answerers import in_process
    from engine_adapter.demo.chat import Segment

    answer = in_process(MODELS / "base")
    assert "text" in answer([Segment("user", "What can you do?")])
    document = Segment("document", "Ada lives in Dunham. Ben works as a baker. The lamp is made of brass.")
    assert answer([document, Segment("user", "Where does Ada live?")]) == "Ada lives in Dunham."
