"""What the data plane and the router say to each other about one request."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from gateway.routing.fleet import Worker

Outcome = Literal["ok", "aborted", "failed"]


class RouteRequest(msgspec.Struct, frozen=True, gc=False):
    """What of a request decides where it goes. Bytes are slices of the client's JSON, not re-encoded.

    `head` is what the engine's cache keys before the conversation (tools, `cache_salt`; a LoRA is a model);
    `body` the raw JSON of `messages`, `prompt` or `input`: two turns of a conversation share a prefix of it.
    """

    model: str
    head: bytes
    body: bytes
    session: str | None = None
    """Client's own affinity key, if it sent one."""
    policy: str | None = None
    """Policy asked for by header, if the deployment allows it."""
    max_tokens: int | None = None
    stream: bool = True
    """False: the answer comes in one piece, so its first byte says nothing about the prefill."""


class Assignment(Protocol):
    """One request at one worker; it counts as load there until `finish`, which is called exactly once."""

    @property
    def worker(self) -> Worker:
        """Where it goes."""

    @property
    def reason(self) -> str:
        """Short printable ASCII for `x-sluice-route`: policy and why, e.g. `ttft:hit=1792/2048B,est=84ms`."""

    def first_byte(self, now: float) -> None:
        """The first content arrived (prefill is over); `now` in seconds of a monotonic clock."""

    def finish(
        self,
        now: float,
        outcome: Outcome,
        prompt_tokens: int = 0,
        cached_tokens: int = 0,
        output_tokens: int = 0,
    ) -> None:
        """The request ended: its place is free. Token counts as in `counted`, if they are known already."""

    def counted(self, prompt_tokens: int, cached_tokens: int, output_tokens: int) -> None:
        """What the engine counted, 0 where it did not say; some time after `finish`, where it was not said
        there. Only what is learned from it waits for it."""


class NoWorkerError(Exception):
    """Nobody can take the request now. `unknown_model` tells 404 from 503."""

    def __init__(self, message: str, *, unknown_model: bool) -> None:
        super().__init__(message)
        self.unknown_model = unknown_model


class UnknownPolicyError(ValueError):
    """The request or the configuration names a routing policy that does not exist."""


class Router(Protocol):
    def assign(self, request: RouteRequest, now: float, exclude: frozenset[str] = frozenset()) -> Assignment:
        """Choose a worker and count the request there. Never blocks.

        `exclude` holds ids that this request has failed on already. Raises NoWorkerError, UnknownPolicyError.
        """
