"""Parts of kernels: sixteen pairs of bfloat16 at a time, written as LLVM vectors.

LLVM unrolls the loops that it vectorises for runs of at least 128 elements; a row of a tile has 32 or 64, so
that the plain loop ends up in its slow tail. These parts name the vectors instead. They are no machine code:
LLVM splits them for machines with shorter registers. Every operation rounds as the plain loops do, so the
bytes are the same on every path.

A pair is two adjacent bfloat16 read as one uint32, the even one in the low half; a pair of codes likewise two
bytes read as one uint16. Nothing here checks bounds.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

LANES = 16
"""Pairs per step."""

_I16, _I32, _F32 = ir.IntType(16), ir.IntType(32), ir.FloatType()
_FLOATS, _WORDS, _HALVES = (ir.VectorType(kind, LANES) for kind in (_F32, _I32, _I16))


def _every(number, kind=_WORDS):
    return ir.Constant(kind, [number] * kind.count)


def _address(context, builder, kind, array, at, vector):
    data = make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


def _filled(builder, number):
    """A vector of one float in all lanes."""
    nothing = ir.Constant(_FLOATS, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, nothing, _every(0))


def _evens_and_odds(context, builder, kind, array, at):
    """32 floats of an array from `at` on, every other one in either vector."""
    wide = ir.VectorType(_F32, 2 * LANES)
    loaded = builder.load(_address(context, builder, kind, array, at, wide), align=4)
    nothing = ir.Constant(wide, ir.Undefined)
    return [
        builder.shuffle_vector(loaded, nothing, ir.Constant(_WORDS, [2 * i + odd for i in range(LANES)]))
        for odd in (0, 1)
    ]


@intrinsic
def extremes(typing, words, at):
    """Least and greatest of the 32 bfloat16 (as int16) from `at` on, in the order of `uniform`'s ends."""

    def build(context, builder, signature, arguments):
        kind = ir.VectorType(_I16, 2 * LANES)
        read = builder.load(_address(context, builder, signature.args[0], *arguments, kind), align=2)
        negative = builder.ashr(read, _every(15, kind))
        ordered = builder.xor(read, builder.and_(negative, _every(0x7FFF, kind)))
        found = []
        for which in ("smin", "smax"):
            name = f"llvm.vector.reduce.{which}.v{kind.count}i16"
            reduce = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I16, [kind]), name)
            found.append(builder.call(reduce, [ordered]))
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(types.int16, 2)(words, types.int64), build


def _codes(context, builder, signature, arguments, lows, inverses):
    pairs, at = arguments[:2]
    read = builder.load(_address(context, builder, signature.args[0], pairs, at, _WORDS), align=2)
    halves = builder.shl(read, _every(16)), builder.and_(read, _every(0xFFFF0000))
    made = []
    for half, low, inverse in zip(halves, lows, inverses, strict=True):
        scaled = builder.fmul(builder.fsub(builder.bitcast(half, _FLOATS), low), inverse)
        made.append(builder.fptosi(builder.fadd(scaled, _every(0.5, _FLOATS)), _WORDS))
    both = builder.trunc(builder.or_(made[0], builder.shl(made[1], _every(8))), _HALVES)
    coded = _address(context, builder, signature.args[-1], arguments[-1], at, _HALVES)
    builder.store(both, coded, align=1)
    return context.get_dummy_value()


def _numbers(context, builder, signature, arguments, lows, steps):
    coded, at = arguments[:2]
    read = builder.load(_address(context, builder, signature.args[0], coded, at, _HALVES), align=1)
    wide = builder.zext(read, _WORDS)
    made = []
    for code, low, step in zip(
        (builder.and_(wide, _every(255)), builder.lshr(wide, _every(8))), lows, steps, strict=True
    ):
        number = builder.fadd(low, builder.fmul(step, builder.sitofp(code, _FLOATS)))
        bits = builder.bitcast(number, _WORDS)
        odd = builder.and_(builder.lshr(bits, _every(16)), _every(1))
        made.append(builder.add(bits, builder.add(odd, _every(0x7FFF))))
    both = builder.or_(builder.lshr(made[0], _every(16)), builder.and_(made[1], _every(0xFFFF0000)))
    pairs = _address(context, builder, signature.args[-1], arguments[-1], at, _WORDS)
    builder.store(both, pairs, align=2)
    return context.get_dummy_value()


def _of_row(formula):
    """An intrinsic for a row: the same low end and scale for all lanes."""

    def build(context, builder, signature, arguments):
        low, scale = (_filled(builder, number) for number in arguments[2:4])
        return formula(context, builder, signature, arguments, (low, low), (scale, scale))

    def typed(typing, source, at, low, scale, target):
        return types.void(source, types.int64, types.float32, types.float32, target), build

    return intrinsic(typed)


def _of_columns(formula):
    """An intrinsic for columns: low ends and scales are arrays of float32, read from `column` on."""

    def build(context, builder, signature, arguments):
        lows, scales = (
            _evens_and_odds(context, builder, signature.args[i], arguments[i], arguments[4]) for i in (2, 3)
        )
        return formula(context, builder, signature, arguments, lows, scales)

    def typed(typing, source, at, lows, scales, column, target):
        return types.void(source, types.int64, lows, scales, types.int64, target), build

    return intrinsic(typed)


codes_of_row, codes_of_columns = _of_row(_codes), _of_columns(_codes)
"""(pairs, at, low end, reciprocal step, coded): codes of the pairs from `at` on, to the same place."""

numbers_of_row, numbers_of_columns = _of_row(_numbers), _of_columns(_numbers)
"""(coded, at, low end, step, pairs): bfloat16, rounded to nearest even, of the codes from `at` on. Numbers
must stay below 2**127: nothing keeps them from rounding to infinity."""
