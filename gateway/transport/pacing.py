"""When an Eloquent sender may and must send: round-trip time, packet interval, repeats."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pacing:
    """Seconds, unless said otherwise."""

    interval: float = 0.020
    """Least time between two packets while some get lost."""
    calm_interval: float = 0.040
    """Least time between two packets while none do: what is written in the meantime shares one."""
    busy_interval: float = 0.050
    """Takes its place on a sender whose process is busy: more share one, each costs as much as any other."""
    rtt_share: float = 1 / 8
    """The calm interval is at least this share of the round-trip time."""
    ack_delay: float = 0.080
    """Longest time a receiver waits before it acknowledges. Both sides need the same value."""
    initial_rtt: float = 0.2
    """Assumed until the first acknowledgement."""
    early_copies: int = 2
    """Repeats of a newest record, an interval apart, before its acknowledgement can be missed."""
    loss_memory: float = 5.0
    """Early copies are sent for so long after a packet was lost; none on a path that loses nothing."""
    lossy_burst: int = 1
    """Packets per interval while some get lost, if one cannot hold all that is unacknowledged."""
    repeat_growth: float = 1.2
    """Each repeat without an answer makes the next wait longer by this factor."""
    longest_repeat: float = 0.1
    """Longest time between two repeats."""
    idle: float = 0.4
    """A path without news gets an empty packet this often, so that a pause is not taken for a dead path."""

    def __post_init__(self) -> None:
        if (
            min(
                self.interval,
                self.calm_interval,
                self.busy_interval,
                self.ack_delay,
                self.initial_rtt,
                self.longest_repeat,
                self.idle,
            )
            <= 0
        ):
            raise ValueError("intervals must be positive")
        if min(self.repeat_growth, self.lossy_burst) < 1:
            raise ValueError("repeat_growth and lossy_burst must be at least 1")
        if min(self.early_copies, self.rtt_share, self.loss_memory) < 0:
            raise ValueError("early_copies, rtt_share and loss_memory must not be negative")


class RoundTrip:
    """Smoothed round-trip time and its deviation (RFC 6298 section 2), in seconds."""

    __slots__ = ("deviation", "patience", "samples", "smoothed")

    def __init__(self, initial: float) -> None:
        self.smoothed = initial
        self.deviation = initial / 2
        self.samples = 0
        self.patience = initial + max(2 * initial, 0.010)
        """After so long an answer is missed."""

    def add(self, sample: float) -> None:
        """Take one measurement."""
        if self.samples == 0:
            self.smoothed, self.deviation = sample, sample / 2
        else:
            self.deviation += (abs(sample - self.smoothed) - self.deviation) / 4
            self.smoothed += (sample - self.smoothed) / 8
        self.samples += 1
        self.patience = self.smoothed + max(4 * self.deviation, 0.010)
