"""What numba has no word for: memory by address, prefetch, a lock word, and a dot product in a fixed order.

A *pointer* is numba's CPointer: ``p[i]`` reads and ``p[i] = x`` writes, without bounds or wrap-around.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sparkps.kernels.compiled import inlined

_BYTE = ir.IntType(8).as_pointer()
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)

#: Lanes of `dot`; a sum is the same on every processor because the lanes are fixed here.
LANES = 16


def _pointer_to(dtype: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(types.CPointer(dtype)))

    return types.CPointer(dtype)(types.int64), codegen


@intrinsic
def int64_at(typingctx, address):  # type: ignore[no-untyped-def]
    """Pointer to int64 at `address`."""
    return _pointer_to(types.int64)


@intrinsic
def int32_at(typingctx, address):  # type: ignore[no-untyped-def]
    """Pointer to int32 at `address`."""
    return _pointer_to(types.int32)


@intrinsic
def int16_at(typingctx, address):  # type: ignore[no-untyped-def]
    """Pointer to int16 at `address`."""
    return _pointer_to(types.int16)


@intrinsic
def uint16_at(typingctx, address):  # type: ignore[no-untyped-def]
    """Pointer to uint16 at `address`."""
    return _pointer_to(types.uint16)


@intrinsic
def uint8_at(typingctx, address):  # type: ignore[no-untyped-def]
    """Pointer to uint8 at `address`."""
    return _pointer_to(types.uint8)


@intrinsic
def float32_at(typingctx, address):  # type: ignore[no-untyped-def]
    """Pointer to float32 at `address`."""
    return _pointer_to(types.float32)


@intrinsic
def float64_at(typingctx, address):  # type: ignore[no-untyped-def]
    """Pointer to float64 at `address`."""
    return _pointer_to(types.float64)


@intrinsic
def like_at(typingctx, address, array):  # type: ignore[no-untyped-def]
    """Pointer at `address` to values of the dtype of `array`."""
    result = types.CPointer(array.dtype)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.inttoptr(args[0], context.get_value_type(result))

    return result(types.int64, array), codegen


@intrinsic
def data(typingctx, array):  # type: ignore[no-untyped-def]
    """Pointer to the first element of a C-contiguous `array`, which it does not keep alive.

    An array that a kernel makes must be named once more after the pointer's last use, or be an argument.
    """
    result = types.CPointer(array.dtype)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        made = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.bitcast(made.data, context.get_value_type(result))

    return result(array), codegen


@intrinsic
def address_of(typingctx, pointer, index):  # type: ignore[no-untyped-def]
    """Address of ``pointer[index]``."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.ptrtoint(builder.gep(args[0], [args[1]]), _INT64)

    return types.int64(pointer, types.int64), codegen


@intrinsic
def prefetch(typingctx, pointer, index):  # type: ignore[no-untyped-def]
    """Asks for the cache line of ``pointer[index]`` ahead of its use."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(ir.VoidType(), [_BYTE, _INT32, _INT32, _INT32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.bitcast(builder.gep(args[0], [args[1]]), _BYTE)
        builder.call(function, [place, _INT32(0), _INT32(3), _INT32(1)])
        return context.get_dummy_value()

    return types.void(pointer, types.int64), codegen


@intrinsic
def _try_lock(typingctx, word):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        pair = builder.cmpxchg(args[0], _INT64(0), _INT64(1), "acquire", "monotonic")
        return builder.extract_value(pair, 1)

    return types.boolean(types.CPointer(types.int64)), codegen


@intrinsic
def unlock(typingctx, word):  # type: ignore[no-untyped-def]
    """Gives back the lock word at the pointer `word`."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        builder.store_atomic(_INT64(0), args[0], "release", 8)
        return context.get_dummy_value()

    return types.void(types.CPointer(types.int64)), codegen


@intrinsic
def _sched_yield(typingctx):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_INT32, []), "sched_yield")
        return builder.call(function, [])

    return types.int32(), codegen


@inlined
def lock(word: Any) -> None:
    """Takes the lock word at the pointer `word`; gives the processor away while another thread holds it."""
    spins = 0
    while not _try_lock(word):
        spins += 1
        if spins > 32:
            _sched_yield()


@intrinsic
def copy_bytes(typingctx, target, source, count):  # type: ignore[no-untyped-def]
    """Copies `count` bytes from the address `source` to the address `target`; they do not overlap."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        cgutils.raw_memcpy(builder, builder.inttoptr(args[0], _BYTE), builder.inttoptr(args[1], _BYTE), args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def _load_lanes(builder: Any, pointer: Any, index: Any) -> Any:
    lanes = ir.VectorType(ir.DoubleType(), LANES)
    return builder.load(builder.bitcast(builder.gep(pointer, [index]), lanes.as_pointer()), align=8)


def _sum_of_lanes(builder: Any, vector: Any) -> Any:
    values = [builder.extract_element(vector, _INT32(lane)) for lane in range(LANES)]
    while len(values) > 1:
        half = len(values) // 2
        values = [builder.fadd(values[i], values[i + half]) for i in range(half)]
    return values[0]


@intrinsic
def dot(typingctx, left, right, count):  # type: ignore[no-untyped-def]
    """Dot product of `count` float64 at the pointers `left` and `right`.

    Element i is added to lane i mod 16, the lanes are added as a tree, and then the last ``count % 16`` elements in order.
    """

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        left, right, count = args
        lanes = ir.VectorType(ir.DoubleType(), LANES)
        whole = builder.and_(count, _INT64(-LANES))
        total = cgutils.alloca_once_value(builder, ir.Constant(lanes, [0.0] * LANES))
        with cgutils.for_range_slice(builder, _INT64(0), whole, _INT64(LANES), _INT64) as (i, _):
            product = builder.fmul(_load_lanes(builder, left, i), _load_lanes(builder, right, i))
            builder.store(builder.fadd(builder.load(total), product), total)
        result = cgutils.alloca_once_value(builder, _sum_of_lanes(builder, builder.load(total)))
        with cgutils.for_range_slice(builder, whole, count, _INT64(1), _INT64) as (i, _):
            product = builder.fmul(builder.load(builder.gep(left, [i])), builder.load(builder.gep(right, [i])))
            builder.store(builder.fadd(builder.load(result), product), result)
        return builder.load(result)

    pointer = types.CPointer(types.float64)
    return types.float64(pointer, pointer, types.int64), codegen
