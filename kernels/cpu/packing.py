"""Parts of kernels: codes of a few bits, packed from the low bits of each byte up."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import numpy as np

from kernels.cpu.jit import part


@part
def pack(codes, size, bits, out):
    """Pack `size` codes of `bits` (1 to 8) bits; `codes` has zeros up to the next multiple of 8."""
    if bits == 8:
        for i in range(size):
            out[i] = codes[i]
    elif bits == 4:
        pairs = codes.view(np.uint16)
        for i in range(out.size):
            pair = pairs[i]
            out[i] = np.uint8((pair & np.uint16(15)) | (pair >> np.uint16(4)))
    elif bits == 2:
        fours = codes.view(np.uint32)
        for i in range(out.size):
            four = fours[i]
            low = (four & np.uint32(3)) | ((four >> np.uint32(6)) & np.uint32(12))
            high = ((four >> np.uint32(12)) & np.uint32(48)) | ((four >> np.uint32(18)) & np.uint32(192))
            out[i] = np.uint8(low | high)
    else:
        held, have, at = np.uint32(0), 0, 0
        for i in range(size):
            held |= np.uint32(codes[i]) << np.uint32(have)
            have += bits
            if have >= 8:
                out[at] = np.uint8(held & np.uint32(255))
                at += 1
                held >>= np.uint32(8)
                have -= 8
        if have:
            out[at] = np.uint8(held)


@part
def unpack(data, size, bits, codes):
    """Inverse of `pack`; may write up to seven codes more than `size`."""
    if bits == 8:
        for i in range(size):
            codes[i] = data[i]
    elif bits == 4:
        pairs = codes.view(np.uint16)
        for i in range(data.size):
            byte = np.uint16(data[i])
            pairs[i] = np.uint16((byte & np.uint16(15)) | ((byte & np.uint16(240)) << np.uint16(4)))
    elif bits == 2:
        fours = codes.view(np.uint32)
        for i in range(data.size):
            four = np.uint32(data[i])
            low = (four & np.uint32(3)) | ((four & np.uint32(12)) << np.uint32(6))
            high = ((four & np.uint32(48)) << np.uint32(12)) | ((four & np.uint32(192)) << np.uint32(18))
            fours[i] = low | high
    else:
        held, have, at = np.uint32(0), 0, 0
        for i in range(size):
            if have < bits:
                held |= np.uint32(data[at]) << np.uint32(have)
                at += 1
                have += 8
            codes[i] = np.uint8(held & np.uint32((1 << bits) - 1))
            held >>= np.uint32(bits)
            have -= bits
