"""Worlds are consistent, documents state what worlds hold, and answers follow from the text."""

from __future__ import annotations

import random

import pytest

from engine_adapter.demo.documents import FORMS, Wording, write
from engine_adapter.demo.lexicon import KINDS, distinct_words
from engine_adapter.demo.relations import RELATIONS
from engine_adapter.demo.tasks import TASKS, Reading, ask
from engine_adapter.demo.world import Fact, Scope, World, build_world, fill, with_article


def _readings(number: int, facts: int = 40, split: str = "seen") -> list[Reading]:
    readings = []
    for seed in range(number):
        rng = random.Random(f"test:{seed}")
        world = build_world(rng, facts)
        readings.append(Reading(world, (write(rng, world, Wording(split=split)),), split))
    return readings


def test_lexicon_has_a_thousand_words() -> None:
    assert len(distinct_words()) >= 1000
    assert all(len(set(members)) == len(members) for members in KINDS.values())


def test_every_relation_joins_known_kinds_and_holds_something_out() -> None:
    for relation in RELATIONS.values():
        assert relation.subject in KINDS
        assert relation.value in KINDS
        assert not set(relation.templates("seen")) & set(relation.templates("unseen"))
        assert not set(relation.asked("seen")) & set(relation.asked("unseen"))
        assert relation.templates("seen")
        assert relation.asked("seen")


def test_latest_fact_wins() -> None:
    world = World((Fact("home", "Ada", "Dunham"), Fact("home", "Ada", "Lindale", supersedes=True)))
    assert world.current("home", "Ada") == "Lindale"
    assert list(world.history("home", "Ada")) == ["Dunham", "Lindale"]
    assert world.holders("home", "Dunham") == []
    assert world.current("job", "Ada") is None


def test_same_seed_same_world() -> None:
    first, second = (build_world(random.Random(5), 60) for _ in range(2))
    assert first == second
    assert build_world(random.Random(6), 60) != first


def test_scope_limits_members_relations_and_wordings() -> None:
    scope = Scope(members=8, phrasings=1, relations=("home", "job"))
    world = build_world(random.Random(1), 12, scope)
    assert {fact.relation for fact in world.facts} <= {"home", "job"}
    assert {fact.subject for fact in world.facts} <= set(scope.pool("person"))
    assert len(scope.pool("person")) == 8
    assert scope.phrases(("a", "b")) == ("a",)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_document_states_every_fact(form: str) -> None:
    rng = random.Random(form)
    world = build_world(rng, 50)
    document = write(rng, world, Wording(), form)
    told = {fact for sentence in document.sentences for fact in sentence.facts}
    assert told == set(world.facts)
    for sentence in document.sentences:
        for fact in sentence.facts:
            assert fact.value in sentence.text
        assert sentence.text in document.text


@pytest.mark.parametrize("form", sorted(FORMS))
def test_changes_come_after_what_they_change(form: str) -> None:
    rng = random.Random(form)
    world = build_world(rng, 80, changes=0.9)
    order = [fact for sentence in write(rng, world, Wording(), form).sentences for fact in sentence.facts]
    for pair in world.known(changed=True):
        values = [fact.value for fact in order if (fact.relation, fact.subject) == pair]
        assert values == list(world.history(*pair))


def test_removed_evidence_is_gone() -> None:
    for reading in _readings(10):
        document = reading.documents[0]
        relation, subject = reading.world.known()[0]
        rest = document.without(relation, subject)
        assert len(rest.sentences) < len(document.sentences)
        assert all((f.relation, f.subject) != (relation, subject) for s in rest.sentences for f in s.facts)


@pytest.mark.parametrize("task", sorted(TASKS))
def test_model_answer_is_scored_right_and_others_wrong(task: str) -> None:
    asked = 0
    for reading in _readings(25):
        rng = random.Random(task)
        question = ask(rng, reading, task)
        if question is None:
            continue
        asked += 1
        assert question.score(question.answer), question
        assert not question.score("I like the sea."), question
    assert asked >= 10


@pytest.mark.parametrize("task", ["one_hop", "brief", "two_hop", "three_hop", "latest", "follow_up"])
def test_expected_values_stand_in_the_text(task: str) -> None:
    for reading in _readings(15):
        question = ask(random.Random(1), reading, task)
        if question is not None:
            assert question.expected in reading.documents[0].text
            assert question.evidence


def test_unstated_questions_have_no_answer() -> None:
    for reading in _readings(15):
        question = ask(random.Random(2), reading, "not_stated")
        assert question is not None
        assert "the text does not" in question.answer
        for relation, subject in reading.world.known():
            assert question.text != fill(RELATIONS[relation].questions[0], subject)


def test_counts_agree_with_the_world() -> None:
    for reading in _readings(15):
        question = ask(random.Random(3), reading, "count")
        if question is not None:
            for relation, subject in question.evidence:
                assert subject.removeprefix("the ") in question.answer
                assert reading.world.current(relation, subject) is not None


def test_articles() -> None:
    assert with_article("owl") == "an owl"
    assert with_article("dog") == "a dog"
