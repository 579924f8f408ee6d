"""Interleaved range asymmetric numeral systems (J. Duda, 2013) with static tables, one table per row.

Four 32-bit states take turns over the symbols of a row, so that a core works on four dependency chains at
once; they share one stream of 16-bit words (renormalisation moves at most one word per symbol, hence no
loops and no unpredictable branches in the decoder). Probabilities are multiples of 1/4096.

A stream is: 4 states (uint32, little-endian), words (uint16), escapes (int16). Symbol 0 is the escape: the
value stands in the list of escapes. Symbol s in 1..255 is the value s - 128.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from kernels.cpu.jit import IN_U8, OUT_U8, array, kernel, part

SCALE_BITS = 12
SCALE = 1 << SCALE_BITS
LANES = 4
STATE_BYTES = 4 * LANES
_LOW = np.uint64(1 << 16)
_MASK = np.uint64(SCALE - 1)
_SHIFT = np.uint64(SCALE_BITS)
_SIXTEEN = np.uint64(16)
_TWENTY = np.uint64(20)
_EIGHT = np.uint64(8)
_BYTE = np.uint64(255)
_ONE = np.uint64(1)


@part
def _put(state, freq, start, out, at):
    """Push one symbol; returns the state and where the stream now begins."""
    if state >= freq << np.uint64(20):
        at -= 2
        out[at] = np.uint8(state & _BYTE)
        out[at + 1] = np.uint8((state >> _EIGHT) & _BYTE)
        state >>= _SIXTEEN
    return ((state // freq) << _SHIFT) + (state % freq) + start, at


@kernel(
    array(numba.int16, 2, readonly=True),
    array(numba.uint16, 2, readonly=True),
    array(numba.uint16, 2, readonly=True),
    array(numba.uint8, 1, readonly=True),
    OUT_U8,
)
def encode(values, freqs, starts, table_of_row, out):
    """Encode `values` [rows, n] into `out`; returns the bytes taken, or -1 if `out` is too small.

    `freqs` and `starts` are [tables, 256] with freqs[:, 0] > 0; `table_of_row` names a table for each row.
    """
    rows, n = values.shape
    room = out.size
    worst = STATE_BYTES + 2 * rows * n
    # Words are made back to front, escapes as well: both in scratch, copied at the end.
    words = np.empty(worst, np.uint8)
    escapes = np.empty(rows * n, np.int16)
    escaped = 0
    at = worst
    states = np.full(LANES, _LOW, np.uint64)
    for row in range(rows - 1, -1, -1):
        table = table_of_row[row]
        freq, start = freqs[table], starts[table]
        for t in range(n - 1, -1, -1):
            symbol = np.int64(values[row, t]) + np.int64(128)
            if symbol < 1 or symbol > 255 or freq[symbol] == 0:
                symbol = np.int64(0)
                escapes[escaped] = values[row, t]
                escaped += 1
            lane = t & (LANES - 1)
            states[lane], at = _put(
                states[lane], np.uint64(freq[symbol]), np.uint64(start[symbol]), words, at
            )
    used = worst - at
    total = STATE_BYTES + used + 2 * escaped
    if total > room:
        return -1
    for lane in range(LANES):
        for byte in range(4):
            out[4 * lane + byte] = np.uint8((states[lane] >> np.uint64(8 * byte)) & _BYTE)
    out[STATE_BYTES : STATE_BYTES + used] = words[at:]
    tail = STATE_BYTES + used
    for i in range(escaped):
        spilt = np.int64(escapes[escaped - 1 - i])
        out[tail + 2 * i] = np.uint8(spilt & 255)
        out[tail + 2 * i + 1] = np.uint8((spilt >> 8) & 255)
    return total


@part
def _pull(state, entry, word):
    """Pop one symbol: the new state, and 1 if it took the word that stands next in the stream."""
    freq = (entry >> _TWENTY) + _ONE
    state = freq * (state >> _SHIFT) + ((entry >> _EIGHT) & _MASK)
    need = state < _LOW
    return (state << _SIXTEEN) | word if need else state, np.int64(need)


@part
def _word(stream, at):
    return np.uint64(stream[at]) | (np.uint64(stream[at + 1]) << _EIGHT)


@kernel(
    IN_U8, array(numba.uint32, 2, readonly=True), array(numba.uint8, 1, readonly=True), array(numba.int16, 2)
)
def decode(stream, slots, table_of_row, values):
    """Decode into `values` [rows, n]; returns 0, or -1 if the stream is damaged.

    `slots` [tables, 4096] holds, for every slot of a table, (freq - 1) << 20 | (slot - start) << 8 | symbol;
    `table_of_row` is below the number of tables (the caller's tables, never the stream's).
    """
    rows, n = values.shape
    size = stream.size
    if size < STATE_BYTES:
        return -1
    states = np.zeros(LANES, np.uint64)
    for lane in range(LANES):
        for byte in range(4):
            states[lane] |= np.uint64(stream[4 * lane + byte]) << np.uint64(8 * byte)
    x0, x1, x2, x3 = states[0], states[1], states[2], states[3]
    at = STATE_BYTES
    escapes = 0
    whole = n - n % LANES
    for row in range(rows):
        slot = slots[table_of_row[row]]
        out = values[row]
        zeros = 0
        t = 0
        # No symbol takes more than one word: where that many are left, none needs a check.
        if size - at >= 2 * n + 2:
            while t < whole:
                e0, e1 = np.uint64(slot[x0 & _MASK]), np.uint64(slot[x1 & _MASK])
                e2, e3 = np.uint64(slot[x2 & _MASK]), np.uint64(slot[x3 & _MASK])
                x0, took = _pull(x0, e0, _word(stream, at))
                at += 2 * took
                x1, took = _pull(x1, e1, _word(stream, at))
                at += 2 * took
                x2, took = _pull(x2, e2, _word(stream, at))
                at += 2 * took
                x3, took = _pull(x3, e3, _word(stream, at))
                at += 2 * took
                s0, s1 = np.int64(e0 & _BYTE), np.int64(e1 & _BYTE)
                s2, s3 = np.int64(e2 & _BYTE), np.int64(e3 & _BYTE)
                out[t], out[t + 1], out[t + 2], out[t + 3] = s0 - 128, s1 - 128, s2 - 128, s3 - 128
                zeros += (s0 == 0) + (s1 == 0) + (s2 == 0) + (s3 == 0)
                t += LANES
        states[0], states[1], states[2], states[3] = x0, x1, x2, x3
        while t < n:
            lane = t & (LANES - 1)
            entry = np.uint64(slot[states[lane] & _MASK])
            word = _word(stream, at) if at + 2 <= size else np.uint64(0)
            states[lane], took = _pull(states[lane], entry, word)
            at += 2 * took
            if at > size:
                return -1
            symbol = np.int64(entry & _BYTE)
            out[t] = symbol - 128
            zeros += symbol == 0
            t += 1
        x0, x1, x2, x3 = states[0], states[1], states[2], states[3]
        escapes += zeros
    if at + 2 * escapes != size or x0 != _LOW or x1 != _LOW or x2 != _LOW or x3 != _LOW:
        return -1
    if escapes:
        for row in range(rows):
            for t in range(n):
                if values[row, t] == -128:
                    raw = np.int64(stream[at]) | (np.int64(stream[at + 1]) << 8)
                    values[row, t] = raw - 65536 if raw >= 32768 else raw
                    at += 2
    return 0


@kernel(array(numba.uint16, 2, readonly=True), array(numba.uint32, 2))
def fill_slots(freqs, slots):
    """Decoding tables [tables, 4096] of frequencies [tables, 256]; -1 if they do not sum to 4096 each."""
    for table in range(len(freqs)):
        total = 0
        for symbol in range(256):
            total += np.int64(freqs[table, symbol])
        if total != SCALE:
            return -1
        at = 0
        for symbol in range(256):
            freq = np.int64(freqs[table, symbol])
            for place in range(freq):
                slots[table, at + place] = np.uint32(((freq - 1) << 20) | (place << 8) | symbol)
            at += freq
    return 0


@kernel(array(numba.int64, 1, readonly=True), array(numba.uint16, 1))
def fit_frequencies(counts, freqs):
    """Frequencies [256] that sum to 4096 from counts [256]: at least 1 for all that was counted, and for
    symbol 0, the escape. What rounding leaves over or short is settled with the most frequent symbols."""
    total = np.float64(0)
    for symbol in range(256):
        total += max(counts[symbol], 0)
    left = SCALE
    for symbol in range(256):
        share = 0.0 if total == 0 else max(counts[symbol], 0) / total * SCALE
        freq = np.int64(share + 0.5)
        if freq == 0 and (counts[symbol] > 0 or symbol == 0):
            freq = np.int64(1)
        freqs[symbol] = np.uint16(freq)
        left -= freq
    while left != 0:
        largest = 0
        for symbol in range(256):
            if freqs[symbol] > freqs[largest]:
                largest = symbol
        freq = np.int64(freqs[largest])
        change = left if left > 0 else max(left, -max(np.int64(1), freq // 16))
        freqs[largest] = np.uint16(freq + change)
        left -= change
    return 0


def slots_of(freqs: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint32]:
    """Decoding tables [tables, 4096]; raises ValueError for frequencies that do not sum to 4096."""
    made = np.empty((len(freqs), SCALE), np.uint32)
    if fill_slots(np.ascontiguousarray(freqs, np.uint16), made):
        raise ValueError(f"the frequencies of a table sum to {SCALE}")
    return made


def frequencies(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """Frequencies [256] nearest to counts [256] that rANS can use (`fit_frequencies`)."""
    made = np.empty(256, np.uint16)
    fit_frequencies(np.ascontiguousarray(counts, np.int64), made)
    return made


def starts_of(freqs: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Cumulative frequencies below each symbol, [tables, 256]."""
    return (np.cumsum(freqs, axis=1, dtype=np.int64) - freqs).astype(np.uint16)
