"""What the bench asks was never trained on: neither its worlds nor, in the unseen split, its wordings."""

from __future__ import annotations

import random
import re

from engine_adapter.demo.bench import cases
from engine_adapter.demo.curriculum import LESSONS
from engine_adapter.demo.family import MODELS
from engine_adapter.demo.relations import RELATIONS
from engine_adapter.demo.rows import RowWriter
from engine_adapter.demo.tokenizer import load_tokenizer
from engine_adapter.demo.world import fill


def _count(text: str) -> int:
    return len(text.split())


def _training_texts(batches: int) -> list[str]:
    tokenizer = load_tokenizer(MODELS / "base")
    writer = RowWriter(tokenizer)
    texts = []
    for lesson in LESSONS:
        for step in range(batches):
            rng = random.Random(f"train:0:{step}")
            rows = lesson.batch(writer, rng, 2560, 256)
            texts.extend(tokenizer.decode(row.ids, skip_special_tokens=False) for row in rows)
    return texts


def test_no_bench_document_occurs_in_training() -> None:
    trained = "\n".join(_training_texts(6))
    for split in ("seen", "unseen"):
        for case in cases("one_hop", 200, 20, _count, split=split):
            for document in case.documents:
                assert document.text not in trained
                told = [sentence.text for sentence in document.sentences if sentence.facts]
                assert sum(text in trained for text in told) <= len(told) * 0.5


def test_held_out_wordings_do_not_occur_in_training() -> None:
    trained = "\n".join(_training_texts(6))
    for relation in RELATIONS.values():
        for template in (*relation.templates("unseen"), *relation.asked("unseen")):
            pattern = re.escape(fill(template, "SUBJECT", "VALUE").replace("a VALUE", "VALUE"))
            pattern = pattern.replace("SUBJECT", r"(the )?\w+").replace("VALUE", r"(an? )?\w+")
            assert re.search(pattern, trained) is None, template


def test_seen_wordings_do_occur_in_training() -> None:
    trained = "\n".join(_training_texts(6))
    pattern = re.compile(r"\w+ lives in \w+\.")
    assert pattern.search(trained)


def test_cases_are_a_function_of_their_arguments() -> None:
    first, second = (list(cases("two_hop", 200, 5, _count, seed=1)) for _ in range(2))
    assert first == second
    assert list(cases("two_hop", 200, 5, _count, seed=2)) != first
