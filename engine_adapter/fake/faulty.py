"""An exchange that misbehaves as its fault says. Sound exchanges never pass through here."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import Protocol

from engine_adapter.fake.faults import Fault
from engine_adapter.fake.http import EVENTS, JSON, Connection, Exchange
from engine_adapter.fake.scheduler import Job
from engine_adapter.fake.wire.errors import ApiError, error_event, openai_error, status_error_kind

_LINGER_ZERO = struct.pack("ii", 1, 0)

BAD_CHUNK = b"xyz\r\n"
"""A chunk whose size is no number."""


def drop(connection: Connection, *, reset: bool) -> None:
    """Close a connection with a FIN, or with an RST that throws away unsent bytes."""
    if connection.transport is None:
        return
    if not reset:
        connection.close()
        return
    handle = connection.transport.get_extra_info("socket")
    # A duplicate, because event loops hand out sockets that must not be touched; the option is shared.
    with socket.socket(fileno=os.dup(handle.fileno())) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    connection.reset()


class JobControl(Protocol):
    """What a faulty exchange does to its job in the engine."""

    def park(self, job: Job) -> None:
        """Stop its progress."""

    def resume(self, job: Job) -> None:
        """Let it go on."""

    def fail(self, job: Job) -> None:
        """End it by the engine's own fault."""


class FaultyExchange(Exchange):
    """Takes a request over from a sound exchange and spoils its answer."""

    __slots__ = ("_engine", "_events_left", "_held", "fault", "stopped")

    def __init__(self, sound: Exchange, fault: Fault, engine: JobControl) -> None:
        super().__init__(sound.connection, sound.method, sound.path, sound.query)
        self.headers = sound.headers
        self.raw_headers = sound.raw_headers
        self.body = sound.body
        self.keep_alive = sound.keep_alive
        self.chunked = sound.chunked
        self.fault = fault
        self.stopped = False
        """Nothing more is sent: hung, cut or ended."""
        self._engine = engine
        self._held = b""
        """Events that wait for the first byte's time."""
        self._events_left = fault.after_events
        sound.connection.current = self

    def strike_first(self) -> bool:
        """Commit what needs no engine; True if the request is thereby dealt with."""
        fault = self.fault
        if fault.kind == "status":
            error = ApiError(fault.message, status=fault.status, kind=status_error_kind(fault.status))
            extra = f"retry-after: {fault.retry_after}\r\n".encode() if fault.retry_after is not None else b""
            super().reply(fault.status, openai_error(error), extra=extra)
            return True
        if fault.kind == "cut" and fault.point == "before-headers":
            self._cut()
            return True
        return False

    def hold_back(self, job: Job) -> None:
        """Keep a job from letting its first token out, if the fault is to hang or to be slow before it."""
        fault = self.fault
        if fault.kind == "hang" and (fault.point != "event" or fault.after_events == 0 or not job.streaming):
            if fault.point == "after-headers" and not job.streaming:
                self._write(self._unary_head(200, 4096, JSON, b""))
            self._hang()
            self._engine.park(job)
        elif fault.kind == "slow" and fault.first_s:
            self._engine.park(job)
            asyncio.get_running_loop().call_later(fault.first_s, self._engine.resume, job)

    def reply(self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b"") -> None:
        """Answer with a whole body, or fail to."""
        if self.stopped:
            return
        fault = self.fault
        head = self._unary_head(status, len(body), content_type, extra)
        match fault.kind, fault.point:
            case "hang", "before-headers":
                self._hang()
            case "hang", _:
                self._write(head)
                self._hang()
            case "cut", "mid-headers":
                self._write(head[: len(head) // 2])
                self._cut()
            case "cut", "after-headers":
                self._write(head)
                self._cut()
            case "cut", _:
                self._write(head + body[: len(body) // 2])
                self._cut()
            case "framing", _:
                self._misframe(status, body, content_type)
            case "slow", _ if self.job is None and fault.first_s:
                loop = asyncio.get_running_loop()
                loop.call_later(fault.first_s, Exchange.reply, self, status, body, content_type, extra)
            case _:
                super().reply(status, body, content_type, extra)

    def open_stream(self) -> None:
        """Send the headers of a stream, or fail to."""
        fault = self.fault
        head = self._stream_head()
        match fault.kind, fault.point:
            case "hang", "before-headers":
                self._hang()
            case "hang", "after-headers":
                self._write(head)
                self._hang()
            case "slow", _ if fault.first_s:
                # The headers go with the first event; see `send`.
                return
            case "cut", "mid-headers":
                self._write(head[: len(head) // 2])
                self._cut()
            case "cut", "after-headers":
                self._write(head)
                self._cut()
            case "framing", _ if fault.framing != "bad-chunk":
                length = {"both": 1 << 20, "long": 1 << 20, "short": 64}[fault.framing]
                lines = b"content-length: %d\r\n" % length
                if fault.framing == "both":
                    lines += b"transfer-encoding: chunked\r\n"
                else:
                    self.chunked = False
                self._write(self._head_with(200, EVENTS, lines))
            case _:
                self._write(head)
        if not self.stopped and self.fault.after_events == 0:
            self._strike(b"")

    def send(self, data: bytes) -> None:
        """Send events one by one until the fault's moment comes."""
        if self.stopped:
            return
        if self.job is not None and self.job.parked and not self.started:
            self._held += data
            return
        if not self.started:
            self._write(self._stream_head())
        data, self._held = self._held + data, b""
        for block in data.split(b"\n\n"):
            if not block or self.stopped:
                break
            event = block + b"\n\n"
            if self._events_left == 0 and self._strike(event):
                return
            self._events_left -= 1
            super().send(event)
            # A hang, and an end at an event's boundary, come as soon as the events before are out.
            if self._events_left == 0 and self.fault.point != "mid-chunk":
                self._strike(b"")

    def step(self, job: Job, index: int) -> None:
        """Part of the scheduler's `Sink`."""
        super().step(job, index)
        if self.stopped:
            self._engine.park(job)
        elif self.fault.kind == "slow" and self.fault.event_s:
            self._engine.park(job)
            asyncio.get_running_loop().call_later(self.fault.event_s, self._engine.resume, job)

    def complete(self, job: Job) -> None:
        """Part of the scheduler's `Sink`."""
        if not self.stopped:
            super().complete(job)

    def end(self) -> None:
        """End the stream, unless it was stopped."""
        if self.stopped:
            return
        if self.fault.kind == "framing" and self.fault.framing != "bad-chunk":
            self.keep_alive = False
        super().end()

    def _strike(self, event: bytes) -> bool:
        """Commit the mid-stream fault before `event`; False if the fault is of another kind."""
        fault = self.fault
        match fault.kind, fault.point:
            case "hang", "event":
                self._hang()
            case "cut", "mid-chunk":
                if not event:
                    return False
                frame = b"%x\r\n%b\r\n" % (len(event), event)
                self._write(frame[: len(frame) // 2])
                self._cut()
            case "cut", ("event" | "mid-body"):
                self._cut()
            case "truncate", _:
                self._end_early()
            case "error-event", _:
                error = ApiError(fault.message, status=fault.status, kind=status_error_kind(fault.status))
                super().send(error_event(self.path, error))
                self._end_early()
            case "framing", _ if fault.framing == "bad-chunk":
                self._write(BAD_CHUNK + event)
                self._cut()
            case _:
                return False
        return True

    def _misframe(self, status: int, body: bytes, content_type: bytes) -> None:
        length = {"both": len(body), "long": len(body) + 100, "short": len(body) // 2, "bad-chunk": 0}
        lines = b"content-length: %d\r\n" % length[self.fault.framing]
        framed = body
        if self.fault.framing == "both":
            lines += b"transfer-encoding: chunked\r\n"
            framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        elif self.fault.framing == "bad-chunk":
            lines = b"transfer-encoding: chunked\r\n"
            framed = BAD_CHUNK + body
        self._write(self._head_with(status, content_type, lines) + framed)
        self.keep_alive = False
        self.stopped = True
        self.finish()

    def _head_with(self, status: int, content_type: bytes, lines: bytes) -> bytes:
        """The usual head with `lines` for its framing."""
        head = self._unary_head(status, 0, content_type, b"")
        return head.replace(b"content-length: 0\r\n", lines)

    def _hang(self) -> None:
        self.stopped = True

    def _cut(self) -> None:
        self._give_up()
        drop(self.connection, reset=self.fault.reset)

    def _end_early(self) -> None:
        self._give_up()
        if self.chunked:
            self._write(b"0\r\n\r\n")
        self.keep_alive = False
        self.finish()

    def _give_up(self) -> None:
        """Send no more, and take the job out as failed: its client did not abort it."""
        self.stopped = True
        if self.job is not None:
            self._engine.fail(self.job)
