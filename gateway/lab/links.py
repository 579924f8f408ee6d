"""Links for the stream lab: delay, loss that runs with the clock, rate; and the published set of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

Outages = list[tuple[float, float]]
"""Start and end in seconds, ascending, without overlap."""


@dataclass(frozen=True, slots=True)
class Link:
    """One cell of the lab: a path and a source of tokens. Times in ms unless said otherwise."""

    name: str
    rtt: float = 100.0
    loss: float = 0.0
    """Share of packets lost; with `burst`, of packets spread evenly over time."""
    burst: float = 0.0
    """Mean length of a bad period (exponential, as are good ones). 0: losses are independent."""
    bad_loss: float = 1.0
    """Share of packets lost in a bad period."""
    every: float = 0.0
    """An outage of exactly `burst` about so often, instead of exponential periods."""
    rate: float = 0.0
    """kbit/s down, with `queue` bytes before it; 0: unlimited. Up is never limited."""
    queue: int = 16_000
    jitter: float = 0.0
    """Standard deviation of the delay; packets keep their order."""
    shared: bool = True
    """Bad periods hit both directions at once, as fading does."""
    tokens: float = 50.0
    """Tokens per second, evenly spaced; 0: gaps as recorded from vLLM."""
    seconds: float = 10.0
    """Length of the answer."""
    extra: int = 0
    """Bytes that every token carries beside its text, as with logprobs."""

    def __post_init__(self) -> None:
        if not 0 <= self.loss < self.bad_loss <= 1:
            raise ValueError(f"loss must be at least 0 and below bad_loss, at most 1 (got {self.loss})")
        if self.rtt <= 0 or self.seconds <= 0 or min(self.burst, self.every, self.rate, self.tokens) < 0:
            raise ValueError("rtt and seconds must be positive, burst, every, rate and tokens not negative")
        if self.every and not 0 < self.burst < self.every:
            raise ValueError("with every, burst must be positive and shorter")

    @property
    def bursty(self) -> bool:
        """Do losses come in periods?"""
        return self.burst > 0

    def outages(self, rng: random.Random, end: float) -> Outages:
        """One trajectory of bad periods up to second `end`."""
        if not self.bursty:
            return []
        return list(self._scripted(rng, end) if self.every else self._exponential(rng, end))

    def _scripted(self, rng: random.Random, end: float) -> Iterator[tuple[float, float]]:
        at = rng.uniform(0, self.every) / 1000
        while at < end:
            yield at, at + self.burst / 1000
            at += self.every * rng.uniform(0.8, 1.2) / 1000

    def _exponential(self, rng: random.Random, end: float) -> Iterator[tuple[float, float]]:
        bad = self.burst / 1000
        good = bad * (self.bad_loss / self.loss - 1) if self.loss else end
        at = 0.0 if rng.random() < self.loss / self.bad_loss else rng.expovariate(1 / good)
        while at < end:
            stop = at + rng.expovariate(1 / bad)
            yield at, stop
            at = stop + rng.expovariate(1 / good)


class Wire:
    """One direction of a link, in virtual time. Sends must come in the order of time."""

    def __init__(self, link: Link, outages: Outages, rng: random.Random, *, limited: bool) -> None:
        self.bytes = 0
        self.packets = 0
        self.arrived = 0
        self._link = link
        self._delay = link.rtt / 2000
        self._rng = rng
        self._outages = outages
        self._at = 0
        self._rate = link.rate * 125 if limited else 0.0
        self._busy = 0.0
        self._last = 0.0

    def send(self, now: float, size: int) -> float | None:
        """When a packet of `size` bytes (headers included) arrives, None if it is lost."""
        self.bytes += size
        self.packets += 1
        leaves = now
        if self._rate:
            start = max(now, self._busy)
            if (start - now) * self._rate > self._link.queue:
                return None
            leaves = self._busy = start + size / self._rate
        if self._lost(leaves):
            return None
        arrives = leaves + self._delay
        if self._link.jitter:
            arrives += abs(self._rng.gauss(0.0, self._link.jitter / 1000))
            arrives = self._last = max(arrives, self._last)
        self.arrived += 1
        return arrives

    def _lost(self, now: float) -> bool:
        link = self._link
        if not link.bursty:
            return link.loss > 0 and self._rng.random() < link.loss
        outages = self._outages
        while self._at < len(outages) and outages[self._at][1] <= now:
            self._at += 1
        bad = self._at < len(outages) and outages[self._at][0] <= now
        return bad and (link.bad_loss >= 1 or self._rng.random() < link.bad_loss)


PUBLISHED: tuple[Link, ...] = (
    Link("short outages", loss=0.05, burst=100),
    Link("short outages, 20 tokens/s", loss=0.05, burst=100, tokens=20),
    Link("short outages, 10 tokens/s", loss=0.05, burst=100, tokens=10),
    Link("short outages, 100 tokens/s", loss=0.05, burst=100, tokens=100),
    Link("near", rtt=20, loss=0.03, burst=60),
    Link("far", rtt=400, loss=0.05, burst=100),
    Link("half a second, one way", loss=0.05, burst=500, shared=False),
    Link("hand-over", rtt=60, burst=500, every=4000, jitter=5),
    Link("fading", rtt=200, loss=0.045, burst=500, bad_loss=0.5, tokens=20),
    Link("deep fading", rtt=200, loss=0.15, burst=1000, bad_loss=0.6, tokens=20, seconds=20),
    Link("train", rtt=120, loss=0.1, burst=1500, jitter=10, tokens=30, seconds=20),
    Link("walk, recorded tokens", rtt=60, loss=0.1, burst=150, jitter=10, tokens=0),
    Link("thin, 128 kbit/s", rtt=150, loss=0.05, burst=100, rate=128, tokens=20),
    Link("logprobs, 400 bytes a token", loss=0.05, burst=100, tokens=40, extra=400),
    Link("independent 1 %", loss=0.01),
    Link("independent 5 %", loss=0.05),
    Link("independent 10 %, far", rtt=200, loss=0.1, tokens=20),
)

_PERCENT = {"loss", "bad_loss"}
_COUNTS = {"queue", "extra"}


def parse_links(text: str) -> list[Link]:
    """`published`, a name of that set, or `rtt=100,loss=5%,burst=100,...`; for else a ValueError."""
    if text == "published":
        return list(PUBLISHED)
    for link in PUBLISHED:
        if link.name == text:
            return [link]
    if "=" not in text:
        names = ", ".join(repr(link.name) for link in PUBLISHED)
        raise ValueError(
            f"no link is called {text!r}; take 'published', one of {names}, or rtt=100,loss=5%,..."
        )
    known = {f.name for f in fields(Link)} - {"name"}
    values: dict[str, float | int | bool] = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        if key not in known:
            raise ValueError(f"{key!r} is not a property of a link; take {', '.join(sorted(known))}")
        try:
            number = float(value.rstrip("%")) / (100 if value.endswith("%") and key in _PERCENT else 1)
        except ValueError:
            raise ValueError(f"{key}={value!r} is not a number") from None
        values[key] = bool(number) if key == "shared" else int(number) if key in _COUNTS else number
    return [replace(Link(text), **values)]  # type: ignore[arg-type]
