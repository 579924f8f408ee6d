"""Talk that needs no document: greetings, questions about the model, and requests beyond it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from engine_adapter.demo.relations import RELATIONS
from engine_adapter.demo.tales import tale
from engine_adapter.demo.tasks import Reading
from engine_adapter.demo.world import Scope, build_world


@dataclass(frozen=True, slots=True)
class Intent:
    """Ways to say one thing and ways to reply to it."""

    name: str
    said: tuple[str, ...]
    replies: tuple[str, ...]


INTENTS = (
    Intent(
        "greeting",
        (
            "Hello",
            "Hello!",
            "hello",
            "Hi",
            "Hi!",
            "hi",
            "hi there",
            "Hey",
            "hey",
            "Good morning",
            "Good evening",
            "Good day!",
            "Hello there",
            "Greetings",
            "Hi, how are you?",
            "hello, can you help me?",
        ),
        (
            "Hello! Give me a text and ask me something about it.",
            "Hello! How can I help you?",
            "Hi! I can read a text and answer questions about it.",
        ),
    ),
    Intent(
        "identity",
        (
            "Who are you?",
            "who are you",
            "What are you?",
            "what are you?",
            "What is your name?",
            "Tell me about yourself.",
            "Introduce yourself.",
            "Are you a robot?",
            "Are you a person?",
            "Which model are you?",
            "What model is this?",
            "Are you ChatGPT?",
            "who am I talking to?",
        ),
        (
            "I am a very small language model that ships with Sluice. "
            "I read a text and answer questions about it.",
            "I am the demo model of Sluice: a few million weights, trained to read what you give me.",
        ),
    ),
    Intent(
        "ability",
        (
            "What can you do?",
            "what can you do",
            "How can you help me?",
            "What are you good at?",
            "Help",
            "help me",
            "Can you help me?",
            "What should I ask you?",
            "How do you work?",
            "How do I use you?",
            "Give me an example.",
        ),
        (
            "I can answer questions about a text: who, where, when, how many, yes or no. "
            "I can also write JSON, quote a "
            "sentence and tell a story. Paste a text and ask.",
            "Paste a text that says who lives where or who works as what. "
            "Then ask me about it, or ask me to tell a story.",
        ),
    ),
    Intent(
        "maker",
        (
            "Who made you?",
            "who made you",
            "Who trained you?",
            "Where do you come from?",
            "Who built you?",
            "How were you trained?",
            "What were you trained on?",
        ),
        (
            "I was trained by the Sluice project on a synthetic world of people, towns and things.",
            "The Sluice project trained me, on texts about a world that does not exist.",
        ),
    ),
    Intent(
        "mood",
        (
            "How are you?",
            "how are you",
            "How are you today?",
            "Are you well?",
            "How do you feel?",
            "How is it going?",
            "What's up?",
        ),
        (
            "I am fine, thank you. What would you like to know?",
            "Very well, thank you! Do you have a text for me?",
        ),
    ),
    Intent(
        "thanks",
        (
            "Thanks",
            "Thank you",
            "thank you!",
            "Thanks a lot!",
            "Great, thanks.",
            "Thank you very much.",
            "Good job!",
            "Well done.",
            "Nice!",
            "Great",
            "OK",
            "ok",
            "Good",
        ),
        ("You are welcome.", "You are welcome! Do you have another question?", "My pleasure."),
    ),
    Intent(
        "goodbye",
        ("Bye", "Goodbye", "bye!", "See you later.", "Good night", "See you tomorrow.", "That is all."),
        ("Goodbye!", "Goodbye! Come back with another text."),
    ),
    Intent(
        "beyond",
        (
            "What is the capital of France?",
            "What is two plus two?",
            "What is 2+2?",
            "Write a poem.",
            "Write code.",
            "Explain quantum physics.",
            "What is the meaning of life?",
            "Who is the president?",
            "Translate this.",
            "What is the weather today?",
            "What time is it?",
            "Tell me a joke.",
            "Write a Python function.",
            "Explain how a KV cache works.",
            "What is a transformer?",
            "Do you like music?",
            "Can you sing?",
            "Give me a recipe.",
            "What is the news?",
            "Solve this equation.",
            "Say something.",
            "Do you know everything?",
            "What is love?",
            "Write an essay about the sea.",
            "Explain streaming in one sentence.",
            "Why is the sky blue?",
            "Count to ten.",
            "Write a haiku about the moon.",
            "test",
            "Testing",
            "ping",
            "asdf",
            "?",
            "What?",
        ),
        (
            "I know nothing beyond the text you give me. Give me one, and ask about it.",
            "That is beyond me: I am a small model and only know what stands in the text that you give me.",
            "I cannot say. I am a small model that only reads the text in front of it.",
        ),
    ),
)

PERSONAS = (
    "You are a helpful assistant.",
    "You are the demo model of Sluice.",
    "Answer from the text.",
    "You are a careful reader. Answer only from the text.",
    "Be brief.",
)

_TELL = (
    "Tell me a story.",
    "tell me a story",
    "Tell me a long story.",
    "Tell me a short story.",
    "Write a story.",
    "Make up a story.",
    "Write a short story.",
    "Write a long story.",
    "Tell me another story.",
    "Can you tell me a story?",
    "Please tell me a story.",
    "A story, please.",
    "story",
    "Once upon a time",
)

_TELL_ABOUT = ("Tell me a story about {s}.", "tell me a story about {s}", "Write a story about {s}.")

READ = ("I have read it. What would you like to know?", "Thank you. What would you like to know about it?")
"""Replies to a text without a question."""

_REQUESTS = (
    "What is {t}?", "Explain {t}.", "Tell me about {t}.", "How does {t} work?", "Write a poem about {t}.",
    "Write code for {t}.", "Write an essay about {t}.", "Why is {t} important?", "Who invented {t}?",
    "Define {t}.", "I have a question about {t}.", "How do I use {t}?", "Can you help me with {t}?",
    "What do you think of {t}?", "Give me a list of {t}.", "Translate {t} into French.",
    "Tell me a joke about {t}.", "Summarise {t} for me.", "How can I learn {t}?", "Compare {t} and rain.",
    "What are the best {t}?", "Please write a letter about {t}.", "Is {t} good?", "Where can I buy {t}?",
    "How do I install {t}?", "Show me {t}.", "I like {t}.", "{t}", "{t}!", "Do you know {t}?",
    "When was {t}?", "How many {t} are there in the world?", "What is the price of {t} today?",
)  # fmt: skip

_TOPICS = (
    "history", "cats", "the moon", "computers", "music", "love", "Paris", "the weather", "mathematics",
    "football", "a transformer", "streaming", "a KV cache", "Python", "war", "money", "the sea",
    "cooking", "art", "physics", "the internet", "language models", "my homework", "robots", "space",
    "time", "water", "trees", "the future", "New York", "a good book", "machine learning", "this", "that",
    "life", "books", "cars", "health", "the news", "philosophy", "Berlin", "chemistry", "the universe",
    "a recipe", "a dream", "happiness", "numbers", "Linux",
)  # fmt: skip

_ABSENT = (
    "You have not given me a text that says {u}.",
    "I cannot say {u}: I have no text about it.",
)


def small_talk(rng: random.Random) -> tuple[str, str]:
    """One exchange."""
    intent = rng.choice(INTENTS)
    return rng.choice(intent.said), rng.choice(intent.replies)


def story_request(rng: random.Random, scope: Scope) -> tuple[str, str]:
    """A request for a story, and a story."""
    if rng.random() < 0.3:
        hero = rng.choice(scope.pool("person"))
        return rng.choice(_TELL_ABOUT).replace("{s}", hero), tale(rng, scope, hero)
    return rng.choice(_TELL), tale(rng, scope)


def off_topic(rng: random.Random) -> tuple[str, str]:
    """A request for something that the model cannot do, often in words that it has never seen."""
    topic = rng.choice(_TOPICS) if rng.random() < 0.6 else _strange_word(rng)
    request = rng.choice(_REQUESTS).replace("{t}", topic)
    if rng.random() < 0.3:
        request = request[0].lower() + request[1:].rstrip(".?")
    beyond = next(intent for intent in INTENTS if intent.name == "beyond")
    return request, rng.choice(beyond.replies)


def _strange_word(rng: random.Random) -> str:
    return "".join(rng.choice("bcdfghklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(1, 4)))


def question_without_text(rng: random.Random, scope: Scope) -> tuple[str, str]:
    """A question about the world asked with nothing to read, and the honest reply."""
    relation = rng.choice(tuple(RELATIONS.values()))
    subject = rng.choice(scope.pool(relation.subject))
    subject = subject if relation.subject in {"person", "town"} else f"the {subject}"
    world = build_world(rng, 1, scope)
    text = Reading(world, ()).ask(rng, relation, subject)
    return text, rng.choice(_ABSENT).replace("{u}", relation.unknown.replace("{s}", subject))
