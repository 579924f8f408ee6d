from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.transport.eloquent import (
    AckPacket,
    DataPacket,
    Form,
    Kind,
    PacketError,
    Reassembler,
    ReceiverSettings,
    Record,
    Template,
    compact,
    decode,
    expand,
)

GOLDEN = Path(__file__).parents[3] / "golden" / "eloquent"


def load(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def named(cases: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in cases]


def forms_of(written: list[dict[str, str]]) -> tuple[Form, ...]:
    return tuple(Form(f["prefix"].encode(), f["middle"].encode(), f["suffix"].encode()) for f in written)


def record_of(written: dict[str, Any]) -> Record:
    kind = Kind[written["kind"].upper()]
    return Record(kind, written["payload"].encode(), written.get("form", 0), written.get("choice", 0))


def packet_of(written: dict[str, Any]) -> DataPacket | AckPacket:
    fields = dict(written)
    if fields.pop("type") == "ack":
        return AckPacket(**{**fields, "ranges": tuple(map(tuple, fields["ranges"]))})
    runs = tuple((run["first"], tuple(map(record_of, run["records"]))) for run in fields["runs"])
    return DataPacket(**{**fields, "runs": runs, "forms": forms_of(fields["forms"])})


@pytest.mark.parametrize("case", named(load("packets")["valid"]))
def test_packets_are_what_the_vectors_say(case: dict[str, Any]) -> None:
    packet = packet_of(case["packet"])
    assert packet.encode().hex() == case["hex"]
    assert decode(bytes.fromhex(case["hex"])) == packet


@pytest.mark.parametrize("case", named(load("packets")["malformed"]))
def test_malformed_packets_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(PacketError):
        decode(bytes.fromhex(case["hex"]))


@pytest.mark.parametrize("case", named(load("records")))
def test_chunks_become_the_records_of_the_vectors_and_come_back(case: dict[str, Any]) -> None:
    template = Template()
    records = [compact(event["chunk"].encode(), template) for event in case["events"]]
    assert records == [record_of(event["record"]) for event in case["events"]]
    assert tuple(template.forms) == forms_of(case["forms"])
    assert [expand(r, template).decode() for r in records] == [e["chunk"] for e in case["events"]]


@pytest.mark.parametrize("case", named(load("sequences")))
def test_a_receiver_delivers_and_acknowledges_as_the_vectors_say(case: dict[str, Any]) -> None:
    settings = ReceiverSettings(ack_every=case["ack_every"], ack_delay=case["ack_delay_ms"] / 1000)
    receiver = Reassembler(case["stream"], after=case["after"], settings=settings)
    delivered: list[str] = []
    for step in case["steps"]:
        now = step["at_ms"] / 1000
        if "receive" in step:
            ready = receiver.receive(bytes.fromhex(step["receive"]), now)
            assert [expand(record, receiver.template).decode() for record in ready] == step["deliver"]
            delivered += step["deliver"]
        ack = receiver.next_ack(now + 1e-6)  # a sum of float seconds may be a hair above its millisecond
        assert (ack.hex() if ack else None) == step["ack"]
        due = receiver.next_time
        assert (None if due is None else round(due * 1000)) == step["next_ack_at_ms"]
    assert delivered == case["chunks"]
    assert receiver.done
