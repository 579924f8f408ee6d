"""The client's answer survives a broken connection, and says why where it cannot."""

from __future__ import annotations

import asyncio

import pytest

from gateway.chat.conversation import Conversation
from gateway.chat.http import ChatError, ask
from gateway.chat.joined import JoinedAnswer
from gateway.transport.settings import StreamSettings
from gateway.transport.tap import LoggedExchange

from .conftest import CHAT, DONE, PATIENCE, CrankedWorker, House, OpenHouse, token, until

WORDS = [token(f"word{number} ") for number in range(12)]


def cut(house: House) -> None:
    """Break the connection of the stream in progress."""
    (exchange,) = house.relay.exchanges
    assert isinstance(exchange, LoggedExchange)
    front = exchange.tap._client
    assert front is not None
    front.transport.abort()  # type: ignore[attr-defined]


async def test_a_broken_connection_is_mended_by_number(open_house: OpenHouse, worker: CrankedWorker) -> None:
    house = await open_house(worker)
    async with house.http() as http:
        asking = asyncio.ensure_future(ask(http, CHAT, keep=True))
        await until(lambda: worker.answers)
        worker.say(*WORDS[:4])
        joined = JoinedAnswer(http, await asking, None)
        got: list[bytes] = []

        async def read() -> None:
            async for data in joined.events():
                got.append(data)  # noqa: PERF401 - it is looked at while it grows

        reading = asyncio.ensure_future(read())
        await until(lambda: len(got) == 4)
        cut(house)
        worker.say(*WORDS[4:], DONE)
        await asyncio.wait_for(reading, PATIENCE)
    assert got == [event[6:-2] for event in (*WORDS, DONE)]
    assert len(joined.course.troubles) == 1
    assert joined.course.paths == ["sse"]


async def test_a_conversation_remembers_what_was_said(open_house: OpenHouse, worker: CrankedWorker) -> None:
    house = await open_house(worker)
    async with Conversation(house.url, None, system="Be brief.") as conversation:
        for number, text in enumerate(("One?", "Two?")):
            speaking = asyncio.ensure_future(_speak(worker, number))
            said = "".join([piece async for piece in conversation.say(text)])
            await speaking
            assert said == "word0 word1 "
    assert [message["role"] for message in worker.bodies[1]["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    assert worker.bodies[1]["messages"][2]["content"] == "word0 word1 "
    assert conversation.summary.paths == ["sse"]
    assert "2 tokens" in conversation.summary.line()


async def _speak(worker: CrankedWorker, number: int) -> None:
    await until(lambda: len(worker.answers) > number)
    worker.say(*WORDS[:2], DONE)


async def test_why_an_answer_cannot_be_completed(open_house: OpenHouse, worker: CrankedWorker) -> None:
    house = await open_house(worker, streams=StreamSettings(grace_seconds=0.0))
    async with Conversation(house.url, "fake") as conversation:

        async def listen() -> str:
            return "".join([piece async for piece in conversation.say("Hi")])

        listening = asyncio.ensure_future(listen())
        await until(lambda: worker.answers)
        worker.say(WORDS[0])
        await until(lambda: conversation.summary.pieces)
        cut(house)
        with pytest.raises(ChatError, match="Nobody has read"):
            await listening
    async with Conversation(house.url, "other") as conversation:
        with pytest.raises(ChatError, match="does not exist"):
            await anext(conversation.say("Hi"))
