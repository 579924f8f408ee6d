"""Trains the family's byte-level BPE on text of the synthetic world and writes it as Hugging Face files."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from engine_adapter.demo.chat import BOS, CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS
from engine_adapter.demo.documents import Wording, write
from engine_adapter.demo.fillers import FILLERS, OPENINGS, TITLES
from engine_adapter.demo.lexicon import distinct_words
from engine_adapter.demo.relations import RELATIONS
from engine_adapter.demo.smalltalk import INTENTS, PERSONAS
from engine_adapter.demo.tasks import TASKS, Reading, ask
from engine_adapter.demo.world import build_world

VOCAB_SIZE = 4096
_MERGED_SIZE = 1000
_SPACE = "\u0120"
"""How byte-level BPE writes a leading space."""
_NUMBERS = tuple(str(n) for n in range(100))
_SPLIT = r" ?\p{L}+| ?\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def corpus(seed: int, worlds: int) -> Iterator[str]:
    """Text of fresh worlds, questions about them and small talk."""
    rng = random.Random(f"tokenizer:{seed}")
    for _ in range(worlds):
        world = build_world(rng, 40)
        document = write(rng, world, Wording())
        yield document.text
        reading = Reading(world, (document,))
        for task in TASKS:
            question = ask(rng, reading, task)
            if question is not None:
                yield question.text
                yield question.answer
    for intent in INTENTS:
        for text in (*intent.said, *intent.replies):
            yield from [text] * 30
    for text in (*FILLERS, *OPENINGS, *TITLES, *PERSONAS):
        yield from [text] * 10


def train_tokenizer(seed: int = 0, worlds: int = 1500, vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    """Train the tokenizer; deterministic in its arguments.

    Every lexicon word is one token, both after a space and without one: then a fact is one association and
    not the spelling of a name. Byte-pair merges cover all other text; the rest of the vocabulary are whole
    words of the corpus, most frequent first. `ignore_merges` makes whole words win over merges.
    """
    texts = list(corpus(seed, worlds))
    merged = Tokenizer(models.BPE())
    merged.pre_tokenizer = _pre_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=_MERGED_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    merged.train_from_iterator(texts, trainer)
    state = json.loads(merged.to_str())["model"]
    vocab: dict[str, int] = state["vocab"]
    lexicon = sorted(distinct_words() | set(_NUMBERS) | {relation.key for relation in RELATIONS.values()})
    frequent = Counter(
        piece for text in texts for piece, _ in merged.pre_tokenizer.pre_tokenize_str(text)
    ).most_common()
    whole = [form for word in lexicon for form in (_SPACE + word, word)] + [piece for piece, _ in frequent]
    for piece in whole:
        if len(vocab) < vocab_size:
            vocab.setdefault(piece, len(vocab))
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=[tuple(pair) for pair in state["merges"]], ignore_merges=True)
    )
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """Id of a special token; one that the tokenizer lacks is an error."""
    found: int | None = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"the tokenizer has no token {token!r}; it is not one of this family")
    return found


def twins(tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """Pairs of ids of the same word after a space and without one."""
    vocab = tokenizer.get_vocab()
    return sorted(
        (vocab[_SPACE + piece], index)
        for piece, index in vocab.items()
        if piece.isalnum() and _SPACE + piece in vocab
    )


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` into an existing folder."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 4096,
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read `tokenizer.json` of a model folder."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; train it with `sluice demo tokenizer --out {folder}`")
    return Tokenizer.from_file(str(path))
