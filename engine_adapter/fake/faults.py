"""Faults the fake engine can be told to commit, and the plan that decides which request suffers which.

A fault is data; `FaultPlan` picks one for a request; `faulty.py` commits it. Faults come from flags at start,
from `POST /fake/faults` at run time, and from the request header `x-fake-fault`, which overrides the plan:

    x-fake-fault: cut; point=mid-chunk; after_events=3; reset=true
    x-fake-fault: {"kind": "status", "status": 503, "retry_after": "2"}
    x-fake-fault: none
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import msgspec
import orjson

Kind = Literal["refuse", "hang", "cut", "truncate", "status", "error-event", "slow", "framing"]
Point = Literal["connect", "before-headers", "mid-headers", "after-headers", "mid-body", "event", "mid-chunk"]
Framing = Literal["both", "long", "short", "bad-chunk"]

INFERENCE_ONLY = ""
"""The default `path`: every endpoint that runs the model, none of the others."""


class FaultError(ValueError):
    """A fault description is not understood; the message says which field and what is allowed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One misbehaviour and whom it hits.

    Kinds:

    - `refuse`: close the listening socket, for `for_s` seconds or until the faults are replaced; with
      `reset` also every open connection, as a process that dies does.
    - `hang`: send nothing more at `point`; the request stays in the engine until the client leaves.
    - `cut`: close the connection at `point`, by FIN, or by RST if `reset`.
    - `truncate`: end a stream properly after `after_events` events, without finish and without `[DONE]`;
      whole answers stay sound.
    - `status`: answer with `status` (and `Retry-After: retry_after`) in vLLM's error form.
    - `error-event`: after `after_events` events of a stream send the endpoint's error event and end it.
    - `slow`: `first_s` before the first byte and `event_s` before each further event.
    - `framing`: break HTTP framing as `framing` says: `both` lengths, a content-length too `long` or too
      `short`, or a `bad-chunk` size after `after_events` events.

    Points: `connect` (as soon as it is accepted, `cut` only), `before-headers`, `mid-headers`,
    `after-headers`, `mid-body` (of a non-streaming answer), `event` (after `after_events` events of a
    stream, at a boundary), `mid-chunk` (inside the event that follows).
    """

    kind: Kind
    point: Point = "before-headers"
    after_events: int = 1
    reset: bool = False
    status: int = 503
    retry_after: str | None = None
    message: str = "The fake engine was told to fail."
    first_s: float = 0.0
    event_s: float = 0.0
    for_s: float | None = None
    framing: Framing = "both"
    path: str = INFERENCE_ONLY
    """Prefix of the paths it hits, e.g. `/health`; empty = every endpoint that runs the model."""
    model: str | None = None
    """Hit only requests that name this model."""
    probability: float = 1.0
    seed: int = 0
    count: int | None = None
    """Hit so many requests, then stop; None = no end."""

    def __post_init__(self) -> None:
        if self.after_events < 0 or (self.count is not None and self.count < 0):
            raise FaultError("after_events and count must not be negative")
        if not 0 <= self.probability <= 1:
            raise FaultError(f"probability is between 0 and 1, not {self.probability}")
        if self.kind == "status" and not 100 <= self.status <= 599:
            raise FaultError(f"status {self.status} is no HTTP status")
        if self.point == "connect" and self.kind != "cut":
            raise FaultError('point "connect" goes with kind "cut" only')
        if self.kind == "hang" and self.point in ("mid-headers", "mid-body", "mid-chunk"):
            raise FaultError('a hang is at "before-headers", "after-headers" or "event"')
        if min(self.first_s, self.event_s, self.for_s or 0.0) < 0:
            raise FaultError("first_s, event_s and for_s must not be negative")


_FIELDS = {f.name for f in fields(Fault)}


def parse_fault(entry: object) -> Fault:
    """Read one fault from a JSON object.

    Raises FaultError naming the unknown or ill-typed field.
    """
    if not isinstance(entry, dict) or "kind" not in entry:
        raise FaultError(f'a fault is an object with "kind", one of {", ".join(get_args(Kind))}')
    if unknown := entry.keys() - _FIELDS:
        raise FaultError(f"unknown fault field {sorted(unknown)}; known are {sorted(_FIELDS)}")
    try:
        return msgspec.convert(entry, Fault)
    except msgspec.ValidationError as error:
        raise FaultError(str(error)) from error


def parse_header(value: str) -> Fault | None:
    """Read the header `x-fake-fault`; None for `none`, which shields a request from the plan.

    Raises FaultError if it is not understood.
    """
    text = value.strip()
    if text == "none":
        return None
    if text.startswith("{"):
        try:
            return parse_fault(orjson.loads(text))
        except orjson.JSONDecodeError as error:
            raise FaultError(f"x-fake-fault is not JSON: {error}") from error
    kind, *settings = (part.strip() for part in text.split(";"))
    entry: dict[str, Any] = {"kind": kind}
    for setting in filter(None, settings):
        name, found, raw = setting.partition("=")
        if not found:
            raise FaultError(f"x-fake-fault: {setting!r} is not name=value")
        entry[name.strip()] = _literal(name.strip(), raw.strip())
    return parse_fault(entry)


def _literal(name: str, raw: str) -> object:
    if name in ("retry_after", "message", "path", "model"):
        return raw
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw


class _Armed:
    """A fault in the plan with what is left of its count and its own random numbers."""

    __slots__ = ("dice", "fault", "hits", "left")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.left = fault.count
        self.hits = 0
        self.dice = random.Random(fault.seed)

    def strikes(self) -> bool:
        if self.left == 0 or (self.fault.probability < 1 and self.dice.random() >= self.fault.probability):
            return False
        self.hits += 1
        if self.left is not None:
            self.left -= 1
        return True


class FaultPlan:
    """The faults in force, in order; the first that fits a request and strikes is committed."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._armed: list[_Armed] = []
        self.replace(faults)

    def replace(self, faults: Iterable[Fault]) -> None:
        """Forget all faults and arm these."""
        self._armed = [_Armed(fault) for fault in faults]
        self.idle = not self._armed
        """True while there is nothing to choose from: the fast path asks no further."""

    def choose(self, path: str, *, inference: bool, model: str | None) -> Fault | None:
        """The fault a request to `path` suffers, if any; counts it."""
        for armed in self._armed:
            fault = armed.fault
            if fault.kind == "refuse" or fault.point == "connect":
                continue
            fits = path.startswith(fault.path) if fault.path else inference
            if fits and (fault.model is None or fault.model == model) and armed.strikes():
                return fault
        return None

    def choose_on_connect(self) -> Fault | None:
        """The fault a new connection suffers at once, if any; counts it."""
        for armed in self._armed:
            if armed.fault.point == "connect" and armed.strikes():
                return armed.fault
        return None

    def refusal(self) -> Fault | None:
        """The `refuse` fault in force, if any."""
        return next((a.fault for a in self._armed if a.fault.kind == "refuse" and a.left != 0), None)

    def end_refusal(self) -> None:
        """Drop `refuse` faults: the listener is open again."""
        self._armed = [armed for armed in self._armed if armed.fault.kind != "refuse"]
        self.idle = not self._armed

    def describe(self) -> list[dict[str, Any]]:
        """The plan as JSON: each fault with its hits so far and what is left of its count."""
        return [asdict(replace(a.fault, count=a.left)) | {"hits": a.hits} for a in self._armed]
