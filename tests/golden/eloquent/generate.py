"""Writes the golden vectors beside it; run it only when the packet version changes.

    python tests/golden/eloquent/generate.py

The files hold for every implementation: packets.json (bytes and their meaning, and bytes that have none),
records.json (chunks and their compact form), sequences.json (what a receiver gets, delivers, acknowledges).
"""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.transport.eloquent import (
    END,
    AckPacket,
    DataPacket,
    Form,
    Kind,
    Packetizer,
    Reassembler,
    ReceiverSettings,
    Record,
    Template,
    compact,
    decode,
    expand,
)

HERE = Path(__file__).parent
ID = "chatcmpl-92196168626e0168"
HEAD = f'{{"id":"{ID}","object":"chat.completion.chunk","created":1795504031,"model":"base","choices":'
FORM = Form(
    f'{HEAD}[{{"index":'.encode(),
    b',"delta":{"content":',
    b'},"logprobs":null,"finish_reason":null,"token_ids":null}]}',
)
ROLE = f'{HEAD}[{{"index":0,"delta":{{"role":"assistant","content":""}},"finish_reason":null}}]}}'
FINISH = f'{HEAD}[{{"index":0,"delta":{{"content":""}},"logprobs":null,"finish_reason":"stop"}}]}}'
USAGE = f'{HEAD}[],"usage":{{"prompt_tokens":9,"total_tokens":12,"completion_tokens":3}}}}'
WORDS = [
    "The",
    " rain",
    " in",
    " Köln",
    " is",
    "\n\n",
    ' "wet"',
    " \\o/",
    " \u2028",
    " 🌧️",
    "\t\u0001\u007f",
    "",
]


def content(text: str, choice: int = 0) -> bytes:
    """A plain chunk as vLLM writes it."""
    literal = json.dumps(text, ensure_ascii=False).encode()
    return FORM.prefix + b"%d" % choice + FORM.middle + literal + FORM.suffix


def logprobs(text: str) -> bytes:
    """A chunk that has more than its text."""
    entry = {"token": text, "logprob": -0.25, "bytes": list(text.encode()), "top_logprobs": []}
    choice = {"index": 0, "delta": {"content": text}, "logprobs": {"content": [entry]}, "finish_reason": None}
    return f"{HEAD}[{json.dumps(choice)}]}}".encode()


def tool(arguments: str, **more: str) -> bytes:
    """A chunk of a tool call: its beginning if `more` has a name, else a continuation."""
    call: dict[str, Any] = {"index": 0, "function": {**more, "arguments": arguments}}
    choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}
    return f"{HEAD}[{json.dumps(choice, separators=(',', ':'), ensure_ascii=False)}]}}".encode()


def reasoning(text: str) -> bytes:
    """A chunk of a thinking model."""
    return content(text).replace(b'"content"', b'"reasoning"')


ANSWER = [ROLE.encode(), *map(content, WORDS), FINISH.encode(), USAGE.encode(), b"[DONE]"]
STREAMS: dict[str, list[bytes]] = {
    "text": ANSWER,
    "two choices": [
        content("a"),
        content("b", 1),
        content("c", 1),
        content("d", 300),
        content("e"),
        b"[DONE]",
    ],
    "logprobs": [ROLE.encode(), logprobs("Yes"), logprobs(" ü"), b"[DONE]"],
    "tool call": [
        ROLE.encode(),
        tool("", name="weather"),
        tool('{"city":'),
        tool(' "Köln"}'),
        FINISH.encode(),
        b"[DONE]",
    ],
    "reasoning, then text": [reasoning("hm"), reasoning(" so"), content("Yes"), reasoning("?"), b"[DONE]"],
    "error": [content("a"), b'{"error":{"message":"the worker died","type":"server_error","code":null}}'],
    "escapes that are not canonical": [content("a"), content("X").replace(b"X", b"\\u00e9\\/"), b"[DONE]"],
    "blanks": [c.replace(b'":', b'": ') for c in (content("a"), content("b", 2), content(" :"))],
    "completions": [
        f'{HEAD}[{{"index":{choice},"text":"{text}","logprobs":null,"finish_reason":null}}]}}'.encode()
        for choice, text in ((0, "a"), (1, "b"), (0, "\\n"))
    ],
    "text that looks like a form": [content("a"), content(',"delta":{"content":"b"}'), b"[DONE]"],
    "a surrogate alone": [content("a"), content("X").replace(b"X", b"\\ud83d"), b"[DONE]"],
}


def record_form(record: Record) -> dict[str, Any]:
    """A record as the files show it."""
    form: dict[str, Any] = {"kind": record.kind.name.lower(), "payload": record.payload.decode()}
    if record.kind is Kind.TEXT:
        form |= {"form": record.form, "choice": record.choice}
    return form


def forms_form(forms: tuple[Form, ...] | list[Form]) -> list[dict[str, str]]:
    """Forms as the files show them."""
    return [
        {"prefix": f.prefix.decode(), "middle": f.middle.decode(), "suffix": f.suffix.decode()} for f in forms
    ]


def packet_form(packet: DataPacket | AckPacket) -> dict[str, Any]:
    """A packet as the files show it."""
    if isinstance(packet, AckPacket):
        return {
            "type": "ack",
            **{name: getattr(packet, name) for name in AckPacket.__slots__ if name != "ranges"},
            "ranges": [list(r) for r in packet.ranges],
        }
    return {
        "type": "data",
        "stream": packet.stream,
        "number": packet.number,
        "ack_now": packet.ack_now,
        "first_form": packet.first_form,
        "forms": forms_form(packet.forms),
        "runs": [{"first": first, "records": [record_form(r) for r in rs]} for first, rs in packet.runs],
    }


def text(string: str, choice: int = 0, form: int = 0) -> Record:
    """A text record."""
    return Record(Kind.TEXT, string.encode(), form, choice)


PACKETS: dict[str, DataPacket | AckPacket] = {
    "nothing new": DataPacket(1, 1, ack_now=True),
    "one record": DataPacket(1, 2, ((1, (text("Hi"),)),)),
    "two runs": DataPacket(7, 300, ((3, (text("a"), text("ü"))), (9, (text("z"),)))),
    "a form": DataPacket(1, 1, ((1, (text("Hi"),)),), 0, (FORM,), ack_now=True),
    "a second form": DataPacket(1, 70_000, ((16_384, (text("so", form=1),)),), 1, (FORM,)),
    "every kind": DataPacket(
        2**32 - 1,
        2**32 - 1,
        (
            (127, (text("", choice=65_535, form=3), Record(Kind.JSON, ROLE.encode()))),
            (2**32 - 3, (Record(Kind.ERROR, b'{"error":{"message":"no"}}'),)),
        ),
    ),
    "the end": DataPacket(1, 5, ((4, (text("."), END)),), ack_now=True),
    "a long record": DataPacket(1, 6, ((2, (Record(Kind.JSON, b"[" + b"1," * 2000 + b"1]"),)),)),
    "nothing missing": AckPacket(1, 5, 0, 5, 1, 42),
    "two ranges": AckPacket(7, 301, 38, 280, 2, 17, ((18, 19), (25, 153))),
    "largest numbers": AckPacket(
        2**32 - 1, 2**32 - 1, 2**32 - 1, 2**32 - 1, 4, 2**32 - 10, ((2**32 - 9, 2**32 - 1),)
    ),
}
MALFORMED: dict[str, str] = {
    "empty": "",
    "version 0": "000001",
    "version 2": "20000101",
    "unknown type": "12000101",
    "no flags": "10",
    "unknown flag": "10040101",
    "no packet number": "100001",
    "number cut off": "10008080",
    "number not in its shortest form": "1000810001",
    "number over 32 bits": "1000ffffffff1f01",
    "number of six bytes": "100080808080800101",
    "record 0": "10000101000100024869",
    "no records in a run": "100001010100",
    "more records than bytes": "10000101 01 ff7f 000161",
    "record cut off": "10000101 0101 000561",
    "kind 4": "10000101 0101 0400",
    "a form at a JSON record": "10000101 0101 0900",
    "choice 0 spelled out": "10000101 0101 20000161",
    "choice over 65535": "10000101 0101 2080800401 61",
    "reserved bit": "10000101 0101 400161",
    "end with a payload": "10000101 0101 030161",
    "text is not UTF-8": "10000101 0101 0001ff",
    "chunk is not UTF-8": "10000101 0101 0101ff",
    "form is not UTF-8": "10010101 0001 01ff0000",
    "text is half a character": "10000101 0101 0002e282",
    "runs overlap": "10000101 0502 0000 0000 0601 0000",
    "runs touch": "10000101 0501 0000 0601 0000",
    "runs descend": "10000101 0501 0000 0101 0000",
    "no forms": "10010101 0000",
    "form 4": "10010101 0401 000000",
    "form cut off": "10010101 0001 05",
    "forms too long": "10010101 0001 " + "e103" + "61" * 481 + "0000",
    "ack cut off": "1101010001",
    "ack of record 0": "11010100010100",
    "ack of five forms": "11010100010501",
    "range without gap": "11010100010101 0001",
    "range without length": "11010100010101 0100",
    "range cut off": "11010100010101 01",
    "33 ranges": "11010100010101" + "0101" * 33,
}


HAIR = 1e-6
"""Seconds. The files count whole milliseconds, and a sum of float seconds may be a rounding error above its
own: whoever asks whether it is time asks so much later."""


@dataclass
class Script:
    """A stream over a link that a function decides about, as the receiver sees it."""

    events: list[bytes]
    fate: Callable[[int, int], list[int]]
    """(ms, packet number) -> delays in ms at which copies of it arrive."""
    ack_lost: Callable[[int], bool] = lambda at: False
    stream: int = 1
    after: int = 0
    every_ms: int = 25
    steps: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """The script as the file shows it."""
        template = Template()
        sender = Packetizer(self.stream, template, 0.0, after=self.after)
        receiver = Reassembler(self.stream, after=self.after)
        records = [compact(event, template) for event in self.events]
        records = records[self.after :]
        air: list[tuple[int, int, bytes]] = []
        back: list[tuple[int, bytes]] = []
        for at in range(20_000):
            if records and at % self.every_ms == 0:
                sender.push(records.pop(0), at / 1000)
            while back and back[0][0] <= at:
                sender.acknowledge(back.pop(0)[1], at / 1000)
            while (out := sender.next_packet(at / 1000 + HAIR)) is not None:
                number = sender.counts.packets
                for delay in [80] if out.reliable else self.fate(at, number):
                    heapq.heappush(air, (at + delay, number, out.data))
            while air and air[0][0] <= at:
                self._step(receiver, at, heapq.heappop(air)[2], back)
            if receiver.next_time is not None and receiver.next_time <= at / 1000 + HAIR:
                self._step(receiver, at, None, back)
            if sender.done:
                break
        assert sender.done
        return {
            "stream": self.stream,
            "after": self.after,
            "ack_every": ReceiverSettings().ack_every,
            "ack_delay_ms": round(ReceiverSettings().ack_delay * 1000),
            "steps": self.steps,
            "chunks": [event.decode() for event in self.events[self.after :]],
        }

    def _step(
        self, receiver: Reassembler, at: int, packet: bytes | None, back: list[tuple[int, bytes]]
    ) -> None:
        step: dict[str, Any] = {"at_ms": at}
        if packet is not None:
            step["receive"] = packet.hex()
            ready = receiver.receive(packet, at / 1000)
            step["deliver"] = [expand(record, receiver.template).decode() for record in ready]
        ack = receiver.next_ack(at / 1000 + HAIR)
        step["ack"] = ack.hex() if ack else None
        due = receiver.next_time
        step["next_ack_at_ms"] = None if due is None else round(due * 1000)
        self.steps.append(step)
        if ack and not self.ack_lost(at):
            back.append((at + 25, ack))


def _lossy(seed: int, loss: float) -> Callable[[int, int], list[int]]:
    rng = random.Random(seed)
    return lambda at, number: [] if rng.random() < loss else [25]


def _unruly(seed: int) -> Callable[[int, int], list[int]]:
    rng = random.Random(seed)
    return lambda at, number: [rng.randrange(10, 90) for _ in range(rng.choice((0, 1, 1, 2)))]


def sequences() -> dict[str, Any]:
    """All scripts, run."""
    long = [*ANSWER[:9], tool("x" * 3000), *ANSWER[9:]]
    outage = [*ANSWER[:1], *map(content, WORDS * 3), *ANSWER[-3:]]
    return {
        "clean": Script(ANSWER, lambda at, number: [25]).run(),
        "three of ten packets lost": Script(ANSWER, _lossy(1, 0.3)).run(),
        "acknowledgements lost too": Script(ANSWER, _lossy(2, 0.3), ack_lost=lambda at: at % 3 == 0).run(),
        "outage of 400 ms": Script(outage, lambda at, n: [] if 200 <= at < 600 else [25]).run(),
        "late, twice and out of order": Script(outage, _unruly(3)).run(),
        "resumed after record 7": Script(ANSWER, _lossy(4, 0.2), stream=9, after=7).run(),
        "a record too long for a datagram": Script(long, lambda at, number: [25]).run(),
        "two choices": Script(STREAMS["two choices"], _lossy(5, 0.3)).run(),
        "logprobs": Script(STREAMS["logprobs"], _lossy(6, 0.3)).run(),
        "two forms": Script(STREAMS["reasoning, then text"], _lossy(7, 0.4)).run(),
        "an error ends it": Script(STREAMS["error"], _lossy(8, 0.2)).run(),
    }


def streams() -> list[dict[str, Any]]:
    """Every stream's chunks with their records."""
    out = []
    for name, events in STREAMS.items():
        template = Template()
        records = [compact(event, template) for event in events]
        out.append(
            {
                "name": name,
                "forms": forms_form(template.forms),
                "events": [
                    {"chunk": event.decode(), "record": record_form(record)}
                    for event, record in zip(events, records, strict=True)
                ],
            }
        )
    return out


def main() -> None:
    """Write all three files."""
    for packet in PACKETS.values():
        assert decode(packet.encode()) == packet
    valid = [
        {"name": name, "hex": packet.encode().hex(), "packet": packet_form(packet)}
        for name, packet in PACKETS.items()
    ]
    malformed = [{"name": name, "hex": code.replace(" ", "")} for name, code in MALFORMED.items()]
    files = {
        "packets": {"valid": valid, "malformed": malformed},
        "records": streams(),
        "sequences": [{"name": name, **script} for name, script in sequences().items()],
    }
    for name, document in files.items():
        text_form = json.dumps(document, indent=1, ensure_ascii=False)
        (HERE / f"{name}.json").write_text(text_form + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
