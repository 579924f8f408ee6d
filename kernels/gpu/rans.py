"""The rANS of `kernels.cpu.rans`, one program per stream; many streams (chunks times layers) fill a GPU.

The four lanes of a stream are a vector. Who of them moves a word is known before any word is touched, so a
prefix sum gives every lane its place: lanes read, and write, in the order in which the CPU takes turns.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LANES = tl.constexpr(4)
STATE_BYTES = 16


def decode(streams: Tensor, offsets: Tensor, slots: Tensor, table_of_row: Tensor, values: Tensor) -> Tensor:
    """Decode stream s, uint8 `streams[offsets[s] : offsets[s + 1]]`, into int16 `values[s]` [rows, n].

    `slots` [tables, 4096] are int32 bits of `slots_of`. Returns int32 [streams]: 0, or -1 where damaged;
    nothing is read outside of a stream.
    """
    number, rows, n = values.shape
    status = torch.zeros(number, dtype=torch.int32, device=values.device)
    _decode[(number,)](streams, offsets, slots, table_of_row, values, status, rows, n)
    return status


def encode(values: Tensor, freqs: Tensor, starts: Tensor, table_of_row: Tensor) -> list[Tensor]:
    """Streams of int16 `values` [streams, rows, n] with int32 `freqs` and `starts` [tables, 256].

    Two passes: every program writes to a place of its own, back to front; then the pieces are joined.
    """
    number, rows, n = values.shape
    most = 2 * rows * n
    words = torch.empty((number, most), dtype=torch.uint8, device=values.device)
    escapes = torch.empty((number, rows * n), dtype=torch.int16, device=values.device)
    states = torch.empty((number, 4), dtype=torch.int64, device=values.device)
    sizes = torch.empty((number, 2), dtype=torch.int64, device=values.device)
    _encode[(number,)](values, freqs, starts, table_of_row, words, escapes, states, sizes, rows, n)
    made = []
    for stream, (at, escaped) in enumerate(sizes.tolist()):
        shifts = torch.arange(0, 32, 8, device=values.device)
        head = ((states[stream, :, None] >> shifts) & 255).to(torch.uint8).flatten()
        tail = escapes[stream, rows * n - escaped :].contiguous().view(torch.uint8)
        made.append(torch.cat([head, words[stream, at:], tail]))
    return made


@triton.jit
def _byte(streams, at, end):
    return tl.load(streams + at, mask=at < end, other=0).to(tl.uint64)


@triton.jit
def _decode(streams, offsets, slots, table_of_row, values, status, rows, n):
    stream = tl.program_id(0).to(tl.int64)
    at, end = tl.load(offsets + stream), tl.load(offsets + stream + 1)
    lane = tl.arange(0, LANES)
    first = at + 4 * lane
    state = _byte(streams, first, end) | (_byte(streams, first + 1, end) << 8)
    state |= (_byte(streams, first + 2, end) << 16) | (_byte(streams, first + 3, end) << 24)
    at += 4 * LANES
    out = values + stream * rows * n
    escapes = tl.zeros([1], tl.int64)
    for row in range(rows):
        table = slots + tl.load(table_of_row + row).to(tl.int64) * 4096
        for t in range(0, n, LANES):
            live = t + lane < n
            entry = tl.load(table + (state & 4095).to(tl.int64)).to(tl.uint32, bitcast=True).to(tl.uint64)
            moved = ((entry >> 20) + 1) * (state >> 12) + ((entry >> 8) & 4095)
            need = (live & (moved < 65536)).to(tl.int64)
            place = at + 2 * (tl.cumsum(need, 0) - need)
            word = _byte(streams, place, end) | (_byte(streams, place + 1, end) << 8)
            moved = tl.where(need != 0, (moved << 16) | word, moved)
            state = tl.where(live, moved, state)
            at += 2 * tl.sum(need, axis=0)
            symbol = (entry & 255).to(tl.int64)
            tl.store(out + row * n + t + lane, (symbol - 128).to(tl.int16), mask=live)
            escapes += tl.sum((live & (symbol == 0)).to(tl.int64), axis=0)
    count = tl.sum(escapes, axis=0)
    wrong = (at + 2 * count != end) | (tl.sum((state != 65536).to(tl.int32), axis=0) != 0)
    tl.store(status + stream, tl.where(wrong, -1, 0))
    if (count > 0) & (wrong == 0):
        for place in range(0, rows * n, LANES):
            live = place + lane < rows * n
            value = tl.load(out + place + lane, mask=live, other=0)
            escaped = (live & (value == -128)).to(tl.int64)
            where = at + 2 * (tl.cumsum(escaped, 0) - escaped)
            raw = _byte(streams, where, end) | (_byte(streams, where + 1, end) << 8)
            tl.store(out + place + lane, raw.to(tl.uint16).to(tl.int16, bitcast=True), mask=escaped != 0)
            at += 2 * tl.sum(escaped, axis=0)


@triton.jit
def _encode(values, freqs, starts, table_of_row, words, escapes, states, sizes, rows, n):
    stream = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, LANES)
    source = values + stream * rows * n
    most = 2 * tl.cast(rows, tl.int64) * n  # A row count of 1 is a Python int to the compiler.
    room = words + stream * most
    spare = escapes + stream * rows * n
    at = most
    escaped = most // 2
    state = tl.full([LANES], 65536, tl.uint64)
    steps = (n + LANES - 1) // LANES
    for i in range(rows * steps):
        row, t = rows - 1 - i // steps, (steps - 1 - i % steps) * LANES
        live = t + lane < n
        value = tl.load(source + row * n + t + lane, mask=live, other=0).to(tl.int64)
        table = tl.load(table_of_row + row).to(tl.int64) * 256
        inside = (value > -128) & (value < 128)
        symbol = tl.where(inside, value + 128, 0)
        known = tl.load(freqs + table + symbol) > 0
        symbol = tl.where(known, symbol, 0)
        beyond = (live & (symbol == 0)).to(tl.int64)
        # Back to front: the highest lane is pushed first and stands last.
        after = tl.sum(beyond, axis=0) - tl.cumsum(beyond, 0) + beyond
        tl.store(spare + escaped - after, value.to(tl.int16), mask=beyond != 0)
        escaped -= tl.sum(beyond, axis=0)
        freq = tl.load(freqs + table + symbol).to(tl.uint64)
        start = tl.load(starts + table + symbol).to(tl.uint64)
        need = (live & (state >= (freq << 20))).to(tl.int64)
        place = at - 2 * (tl.sum(need, axis=0) - tl.cumsum(need, 0) + need)
        tl.store(room + place, (state & 255).to(tl.uint8), mask=need != 0)
        tl.store(room + place + 1, ((state >> 8) & 255).to(tl.uint8), mask=need != 0)
        at -= 2 * tl.sum(need, axis=0)
        lower = tl.where(need != 0, state >> 16, state)
        state = tl.where(live, ((lower // freq) << 12) + lower % freq + start, state)
    tl.store(states + stream * LANES + lane, state.to(tl.int64))
    tl.store(sizes + stream * 2, at)
    tl.store(sizes + stream * 2 + 1, most // 2 - escaped)
