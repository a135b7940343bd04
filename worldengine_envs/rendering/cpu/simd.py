"""Vectors of eight numbers for numba kernels: ``Floats`` (float32), ``Ints`` (int32) and ``Mask`` (bool), one of each a lane.

Numba leaves it to LLVM to find what can be done at once, which it rarely does in loops with conditions. Here it is written down:
a kernel reads like scalar code, LLVM turns each operation into one instruction (two where registers are narrower), and there are
no checks for overlapping arrays, no remainders and no surprises when a line is added. Vectors live in registers: they are
loaded from arrays and saved to them. Works in compiled code only.
"""

from __future__ import annotations

import operator
from typing import ClassVar

from llvmlite import ir
from numba import types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANE_BITS = 3
LANES = 1 << LANE_BITS
_F32, _I32, _I1, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(1), ir.IntType(64)


class VectorType(types.Type):
    """The type of LANES numbers of one kind."""

    def __init__(self, name: str, element: ir.Type):
        super().__init__(name)
        self.element = element

    @property
    def llvm(self) -> ir.Type:
        return ir.VectorType(self.element, LANES)


Floats, Ints, Mask = VectorType("Floats", _F32), VectorType("Ints", _I32), VectorType("Mask", _I1)


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, numba_type.llvm)


def _constant(vector: VectorType, value) -> ir.Constant:
    return ir.Constant(vector.llvm, [value] * LANES)


def _call(builder, name: str, result: ir.Type, arguments: list):
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
    return builder.call(function, arguments)


# ---- operators


def _define(op, result: VectorType, operands: tuple[VectorType, ...], emit) -> None:
    """Teaches numba an operator between vectors; ``emit(builder, *values)`` writes it."""

    @infer_global(op)
    class _Template(ConcreteTemplate):
        cases: ClassVar = [signature(result, *operands)]

    @lower_builtin(op, *operands)
    def _lower(context, builder, sig, args):
        return emit(builder, *args)


for _op, _name in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv")):
    _define(_op, Floats, (Floats, Floats), lambda builder, a, b, name=_name: getattr(builder, name)(a, b))
for _op, _name in (
    (operator.add, "add"),
    (operator.sub, "sub"),
    (operator.and_, "and_"),
    (operator.or_, "or_"),
    (operator.lshift, "shl"),
    (operator.rshift, "ashr"),
):
    _define(_op, Ints, (Ints, Ints), lambda builder, a, b, name=_name: getattr(builder, name)(a, b))
_define(operator.and_, Mask, (Mask, Mask), lambda builder, a, b: builder.and_(a, b))
_define(operator.or_, Mask, (Mask, Mask), lambda builder, a, b: builder.or_(a, b))
_define(operator.invert, Mask, (Mask,), lambda builder, a: builder.xor(a, _constant(Mask, 1)))
_define(operator.neg, Floats, (Floats,), lambda builder, a: builder.fneg(a))
for _op, _sign in ((operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">="), (operator.eq, "==")):
    _define(_op, Mask, (Floats, Floats), lambda builder, a, b, sign=_sign: builder.fcmp_ordered(sign, a, b))
    _define(_op, Mask, (Ints, Ints), lambda builder, a, b, sign=_sign: builder.icmp_signed(sign, a, b))


# ---- functions


def _splat(builder, vector: VectorType, value):
    zero = ir.Constant(_I32, 0)
    single = builder.insert_element(ir.Constant(vector.llvm, ir.Undefined), value, zero)
    return builder.shuffle_vector(
        single, ir.Constant(vector.llvm, ir.Undefined), ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    )


@intrinsic
def floats(typing_context, value):
    """Returns a float in all lanes, rounded to float32."""

    def emit(context, builder, sig, args):
        return _splat(builder, Floats, context.cast(builder, args[0], sig.args[0], types.float32))

    return Floats(value), emit


@intrinsic
def ints(typing_context, value):
    """Returns an integer in all lanes, as int32."""

    def emit(context, builder, sig, args):
        return _splat(builder, Ints, context.cast(builder, args[0], sig.args[0], types.int32))

    return Ints(value), emit


def _element(context, builder, array_type, array, index, index_type):
    """Returns the address of an element of a C-contiguous array by its place in memory."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [context.cast(builder, index, index_type, types.intp)])


_OF_DTYPE = {types.float32: Floats, types.int32: Ints}


@intrinsic
def load(typing_context, array, index):
    """Returns LANES elements of a contiguous array, from the element ``index`` (counted over all axes) on."""
    vector = _OF_DTYPE[array.dtype]

    def emit(context, builder, sig, args):
        at = _element(context, builder, sig.args[0], args[0], args[1], sig.args[1])
        return builder.load(builder.bitcast(at, vector.llvm.as_pointer()), align=4)

    return vector(array, index), emit


@intrinsic
def save(typing_context, array, index, value):
    """Writes a vector to a contiguous array, from the element ``index`` (counted over all axes) on."""
    vector = _OF_DTYPE[array.dtype]

    def emit(context, builder, sig, args):
        at = _element(context, builder, sig.args[0], args[0], args[1], sig.args[1])
        builder.store(args[2], builder.bitcast(at, vector.llvm.as_pointer()), align=4)

    return types.void(array, index, vector), emit


@intrinsic
def prefetch(typing_context, array, index):
    """Asks for the cache line of an element that is read soon."""

    def emit(context, builder, sig, args):
        at = builder.bitcast(_element(context, builder, sig.args[0], args[0], args[1], sig.args[1]), ir.IntType(8).as_pointer())
        flags = [ir.Constant(_I32, flag) for flag in (0, 3, 1)]
        _call(builder, "llvm.prefetch.p0" if at.type.is_opaque else "llvm.prefetch.p0i8", ir.VoidType(), [at, *flags])

    return types.void(array, index), emit


def _address(builder, address, index, element):
    return builder.gep(builder.inttoptr(address, element.as_pointer()), [index])


@intrinsic
def load_floats(typing_context, address, index):
    """Returns LANES float32 from the one with number ``index`` at an address in memory (int64) on."""

    def emit(context, builder, sig, args):
        return builder.load(builder.bitcast(_address(builder, *args, _F32), Floats.llvm.as_pointer()), align=4)

    return Floats(types.int64, types.int64), emit


@intrinsic
def float_at(typing_context, address, index):
    """Returns the float32 with number ``index`` at an address in memory (int64)."""

    def emit(context, builder, sig, args):
        return builder.load(_address(builder, *args, _F32), align=4)

    return types.float32(types.int64, types.int64), emit


@intrinsic
def int_at(typing_context, address, index):
    """Returns the int32 with number ``index`` at an address in memory (int64)."""

    def emit(context, builder, sig, args):
        return builder.load(_address(builder, *args, _I32), align=4)

    return types.int32(types.int64, types.int64), emit


@intrinsic
def fma(typing_context, a, b, c):
    """Returns a * b + c, rounded once where the processor can."""

    def emit(context, builder, sig, args):
        return _call(builder, f"llvm.fmuladd.v{LANES}f32", Floats.llvm, list(args))

    return Floats(Floats, Floats, Floats), emit


@intrinsic
def root(typing_context, a):
    """Returns the square root."""

    def emit(context, builder, sig, args):
        return _call(builder, f"llvm.sqrt.v{LANES}f32", Floats.llvm, list(args))

    return Floats(Floats), emit


@intrinsic
def smaller(typing_context, a, b):
    """Returns a where a < b, else b (also where a is NaN)."""

    def emit(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return Floats(Floats, Floats), emit


@intrinsic
def larger(typing_context, a, b):
    """Returns a where a > b, else b (also where a is NaN)."""

    def emit(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return Floats(Floats, Floats), emit


@intrinsic
def select(typing_context, mask, a, b):
    """Returns a where the mask is set, else b."""
    return a(Mask, a, b), lambda context, builder, sig, args: builder.select(*args)


@intrinsic
def any_of(typing_context, mask):
    """Whether some lane is set."""

    def emit(context, builder, sig, args):
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], ir.IntType(LANES)), ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(Mask), emit


@intrinsic
def bits_of_mask(typing_context, mask):
    """Returns an int64 with bit k set where lane k is."""

    def emit(context, builder, sig, args):
        return builder.zext(builder.bitcast(args[0], ir.IntType(LANES)), _I64)

    return types.int64(Mask), emit


@intrinsic
def count_of(typing_context, mask):
    """Returns the number of lanes that are set."""

    def emit(context, builder, sig, args):
        lanes = builder.zext(builder.bitcast(args[0], ir.IntType(LANES)), _I64)
        return _call(builder, "llvm.ctpop.i64", _I64, [lanes])

    return types.int64(Mask), emit


@intrinsic
def compress(typing_context, value, mask):
    """Returns the lanes that are set moved together to the front, in their order; anything behind them."""
    kind = "f32" if value == Floats else "i32"

    def emit(context, builder, sig, args):
        rest = ir.Constant(args[0].type, ir.Undefined)
        return _call(builder, f"llvm.experimental.vector.compress.v{LANES}{kind}", args[0].type, [*args, rest])

    return value(value, Mask), emit


@intrinsic
def as_ints(typing_context, value):
    """Returns the bits of floats."""
    return Ints(Floats), lambda context, builder, sig, args: builder.bitcast(args[0], Ints.llvm)


@intrinsic
def as_floats(typing_context, value):
    """Returns floats of bits."""
    return Floats(Ints), lambda context, builder, sig, args: builder.bitcast(args[0], Floats.llvm)


@intrinsic
def to_floats(typing_context, value):
    """Returns the values of integers."""
    return Floats(Ints), lambda context, builder, sig, args: builder.sitofp(args[0], Floats.llvm)


@intrinsic
def to_ints(typing_context, value):
    """Returns floats without what is behind the point; anything where that is no int32."""
    return Ints(Floats), lambda context, builder, sig, args: builder.fptosi(args[0], Ints.llvm)


@intrinsic
def bits_of(typing_context, value):
    """Returns the bits of a float32 scalar as uint32."""
    return types.uint32(types.float32), lambda context, builder, sig, args: builder.bitcast(args[0], _I32)


@intrinsic
def lane_numbers(typing_context):
    """Returns 0, 1, ..., LANES - 1."""
    return Floats(), lambda context, builder, sig, args: ir.Constant(Floats.llvm, [float(k) for k in range(LANES)])


@intrinsic
def pair_sums(typing_context, a, b):
    """Returns the sums of neighbouring lanes of a, then those of b."""

    def emit(context, builder, sig, args):
        lanes = [ir.Constant(ir.VectorType(_I32, LANES), list(range(start, 2 * LANES, 2))) for start in (0, 1)]
        return builder.fadd(*(builder.shuffle_vector(*args, select) for select in lanes))

    return Floats(Floats, Floats), emit
