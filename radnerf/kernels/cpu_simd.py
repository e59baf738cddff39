"""Pieces of CPU kernels that must live in vector registers, written as LLVM instructions for numba to inline.

numba's loops vectorise well along memory, but a matrix product that keeps its sums in registers, or a gather whose
addresses are vectors, cannot be said in them. Each piece here works on ``LANES`` neighbouring floats at a time and is
called from a compiled kernel with flat arrays and offsets into them; nothing is checked.
"""

# numba types the pieces' arguments itself, and hands each piece a context that it need not use.
# ruff: noqa: ANN001, ANN202, ARG001

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _lanes() -> int:
    """Floats in a vector register of this machine, at least four."""
    features: Any = llvmlite.binding.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx2") else 4


LANES = _lanes()
"""Floats that a vector holds."""

ROWS = 8 if LANES != 8 else 4
"""Rows of a matrix product that are summed at once: with two vectors each they fill the registers."""

TILE = 2 * LANES
"""Columns of a matrix product that are summed at once."""

_PRIMES = (1, 2654435761, 805459861)

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VF, _VI = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_Value = Any  # llvmlite's values carry no annotations


class _Writer:
    """Writes instructions of one piece."""

    def __init__(self, context: Any, builder: Any, signature: Any) -> None:  # noqa: ANN401
        self.context, self.builder, self.signature = context, builder, signature

    def data(self, position: int, array: _Value) -> _Value:
        """An array argument's first element's address."""
        return self.context.make_array(self.signature.args[position])(self.context, self.builder, array).data

    def at(self, base: _Value, offset: _Value, vector: ir.VectorType | None = None) -> _Value:
        """The address of an element, or of the vector that begins there."""
        place = self.builder.gep(base, [offset])
        return place if vector is None else self.builder.bitcast(place, vector.as_pointer())

    def load(self, base: _Value, offset: _Value, vector: ir.VectorType) -> _Value:
        """Load a vector from anywhere."""
        value = self.builder.load(self.at(base, offset, vector))
        value.align = 4
        return value

    def store(self, value: _Value, base: _Value, offset: _Value) -> None:
        """Store a vector anywhere."""
        self.builder.store(value, self.at(base, offset, value.type)).align = 4

    def splat(self, scalar: _Value, vector: ir.VectorType) -> _Value:
        """A vector of one number."""
        empty = ir.Constant(vector, ir.Undefined)
        one = self.builder.insert_element(empty, scalar, ir.Constant(_I32, 0))
        return self.shuffle(one, one, [0] * vector.count)

    def shuffle(self, left: _Value, right: _Value, places: list[int]) -> _Value:
        """Elements of two vectors put side by side."""
        return self.builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(_I32, len(places)), places))

    def call(self, name: str, *given: _Value) -> _Value:
        """An LLVM intrinsic on vectors of floats."""
        vector = given[0].type
        kind = ir.FunctionType(vector, [vector] * len(given))
        full = f"llvm.{name}.v{vector.count}f32"
        insert: Any = cgutils.get_or_insert_function
        return self.builder.call(insert(self.builder.module, kind, full), given)

    def add(self, base: _Value, more: int) -> _Value:
        """An offset further on."""
        return self.builder.add(base, ir.Constant(_I64, more)) if more else base


@cache
def product_tile(rows: int) -> Callable[..., None]:
    """Return ``tile(x, x0, stride, w, w0, inner, bias, b0, y, y0, least)``.

    It fills y[r, n] = max(bias[r] + sum_k w[k, r] x[k, n], least) for ``rows`` rows and ``TILE`` columns; x and y
    have ``stride`` floats a row and begin at x0 and y0, w has ``rows`` floats a row and begins at w0.
    """

    @intrinsic
    def tile(  # type: ignore[no-untyped-def]
        typing_context,
        x,
        x0,
        stride,
        w,
        w0,
        inner,
        bias,
        b0,
        y,
        y0,
        least,
    ):
        size = types.intp
        signature = types.void(x, size, size, w, size, size, bias, size, y, size, types.float32)

        def write(context: Any, builder: Any, signature: Any, args: Any) -> _Value:  # noqa: ANN401
            it = _Writer(context, builder, signature)
            x0, stride, w0, inner, b0, y0 = args[1], args[2], args[4], args[5], args[7], args[9]
            x, w, bias, y = (it.data(place, args[place]) for place in (0, 3, 6, 8))
            start = [it.splat(builder.load(it.at(bias, it.add(b0, row))), _VF) for row in range(rows)]
            entry = builder.block
            loop, done = builder.append_basic_block("inner"), builder.append_basic_block("done")
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(_I64)
            k.add_incoming(ir.Constant(_I64, 0), entry)
            sums = [[builder.phi(_VF), builder.phi(_VF)] for _ in range(rows)]
            x_row = builder.add(x0, builder.mul(k, stride))
            columns = [it.load(x, it.add(x_row, v * LANES), _VF) for v in range(2)]
            w_row = builder.add(w0, builder.mul(k, ir.Constant(_I64, rows)))
            after = []
            for row in range(rows):
                factor = it.splat(builder.load(it.at(w, it.add(w_row, row))), _VF)
                after.append([it.call("fma", factor, columns[v], sums[row][v]) for v in range(2)])
            following = builder.add(k, ir.Constant(_I64, 1))
            k.add_incoming(following, loop)
            for row in range(rows):
                for v in range(2):
                    sums[row][v].add_incoming(start[row], entry)
                    sums[row][v].add_incoming(after[row][v], loop)
            builder.cbranch(builder.icmp_signed("<", following, inner), loop, done)
            builder.position_at_end(done)
            floor = it.splat(args[10], _VF)
            for row in range(rows):
                y_row = builder.add(y0, builder.mul(ir.Constant(_I64, row), stride))
                for v in range(2):
                    it.store(it.call("maxnum", after[row][v], floor), y, it.add(y_row, v * LANES))
            return context.get_dummy_value()

        return signature, write

    return tile


@cache
def grid_corners(dim: int, *, hashed: bool) -> Callable[..., None]:
    """Return ``corners(x, x0, stride, scale, resolution, offset, entries, rows, weights, r0)``.

    For ``LANES`` points of a level of a grid it fills, corner after corner (x fastest), the table's rows and the
    weights; both, like the coordinates x, have ``stride`` numbers a row, and begin at r0 and x0. ``radnerf.grid``
    has the convention; rounding is the reference's.
    """

    @intrinsic
    def corners(  # type: ignore[no-untyped-def]
        typing_context,
        x,
        x0,
        stride,
        scale,
        resolution,
        offset,
        entries,
        rows,
        weights,
        r0,
    ):
        size, word = types.intp, types.uint32
        signature = types.void(x, size, size, types.float32, word, word, word, rows, weights, size)

        def write(context: Any, builder: Any, signature: Any, args: Any) -> _Value:  # noqa: ANN401
            it = _Writer(context, builder, signature)
            x0, stride, r0 = args[1], args[2], args[9]
            x, rows, weights = it.data(0, args[0]), it.data(7, args[7]), it.data(8, args[8])
            scale, half = it.splat(args[3], _VF), ir.Constant(_VF, [0.5] * LANES)
            one = ir.Constant(_VI, [1] * LANES)
            terms, shares = _axis_terms(it, x, x0, stride, (scale, half, one), args[4], dim=dim, hashed=hashed)
            offset, entries = it.splat(args[5], _VI), it.splat(args[6], _VI)
            for corner in range(1 << dim):
                index, weight = terms[0][corner & 1], shares[0][corner & 1]
                for axis in range(1, dim):
                    upper = corner >> axis & 1
                    index = (builder.xor if hashed else builder.add)(index, terms[axis][upper])
                    weight = builder.fmul(weight, shares[axis][upper])
                if hashed:  # such a level has a power of two of entries
                    index = builder.and_(index, builder.sub(entries, one))
                else:  # an index at the box's far side may lie beyond the level once, never twice
                    beyond = builder.icmp_unsigned(">=", index, entries)
                    index = builder.select(beyond, builder.sub(index, entries), index)
                place = builder.add(r0, builder.mul(ir.Constant(_I64, corner), stride))
                it.store(builder.add(index, offset), rows, place)
                it.store(weight, weights, place)
            return context.get_dummy_value()

        return signature, write

    return corners


def _axis_terms(
    it: _Writer,
    x: _Value,
    x0: _Value,
    stride: _Value,
    constants: tuple[_Value, _Value, _Value],
    resolution: _Value,
    *,
    dim: int,
    hashed: bool,
) -> tuple[list[list[_Value]], list[list[_Value]]]:
    """Each axis' share of the lower and the upper corner's index, and its share of their weights."""
    builder, (scale, half, one) = it.builder, constants
    terms, shares = [], []
    factor: _Value = ir.Constant(_VI, [1] * LANES)
    for axis in range(dim):
        coordinate = it.load(x, builder.add(x0, builder.mul(ir.Constant(_I64, axis), stride)), _VF)
        position = it.call("fma", coordinate, scale, half)
        floor = it.call("floor", position)
        fraction = builder.fsub(position, floor)
        low = builder.fptosi(floor, _VI)
        high = builder.add(low, one)
        if hashed:
            factor = ir.Constant(_VI, [_PRIMES[axis]] * LANES)
        terms.append([builder.mul(low, factor), builder.mul(high, factor)])
        shares.append([builder.fsub(ir.Constant(_VF, [1.0] * LANES), fraction), fraction])
        if not hashed:
            factor = builder.mul(factor, it.splat(resolution, _VI))
    return terms, shares


POINTS_A_BLEND = 4
"""Points whose features are interpolated at once."""


@cache
def blend_corners(dim: int, features: int) -> Callable[..., None]:
    """Return ``blend(table, rows, weights, r0, stride, out, o0)``.

    For ``POINTS_A_BLEND`` points it sums what ``grid_corners`` found and fills ``features`` rows of out, which has
    ``stride`` floats a row and begins at o0.
    """

    @intrinsic
    def blend(typing_context, table, rows, weights, r0, stride, out, o0):  # type: ignore[no-untyped-def]
        size = types.intp
        signature = types.void(table, rows, weights, size, size, out, size)

        def write(context: Any, builder: Any, signature: Any, args: Any) -> _Value:  # noqa: ANN401
            it = _Writer(context, builder, signature)
            r0, stride, o0 = args[3], args[4], args[6]
            table, rows, weights, out = (it.data(place, args[place]) for place in (0, 1, 2, 5))
            entry = ir.VectorType(_F32, features)
            sums: list[_Value] = [None] * POINTS_A_BLEND
            for corner in range(1 << dim):
                place = builder.add(r0, builder.mul(ir.Constant(_I64, corner), stride))
                for point in range(POINTS_A_BLEND):
                    row = builder.zext(builder.load(it.at(rows, it.add(place, point))), _I64)
                    weight = it.splat(builder.load(it.at(weights, it.add(place, point))), entry)
                    found = it.load(table, builder.mul(row, ir.Constant(_I64, features)), entry)
                    before = sums[point]
                    summed = builder.fmul(weight, found) if before is None else it.call("fma", weight, found, before)
                    sums[point] = summed
            side_by_side = list(range(2 * features))
            left, right = it.shuffle(sums[0], sums[1], side_by_side), it.shuffle(sums[2], sums[3], side_by_side)
            for feature in range(features):
                row = it.shuffle(left, right, [feature + features * point for point in range(POINTS_A_BLEND)])
                it.store(row, out, builder.add(o0, builder.mul(ir.Constant(_I64, feature), stride)))
            return context.get_dummy_value()

        return signature, write

    return blend


def _taking() -> Callable[..., int]:
    @intrinsic
    def take(typing_context, counter):  # type: ignore[no-untyped-def]
        def write(context: Any, builder: Any, signature: Any, args: Any) -> _Value:  # noqa: ANN401
            place = _Writer(context, builder, signature).data(0, args[0])
            return builder.atomic_rmw("add", place, ir.Constant(_I64, 1), "monotonic")

        return types.int64(counter), write

    piece: Callable[..., int] = take
    return piece


take_next = _taking()
"""``take_next(counter)`` returns ``counter[0]``, int64, and adds 1 to it; no two threads are given the same number."""
