# SPDX-License-Identifier: MIT
"""Elementwise operators of two operands, which may be repeated (broadcast)."""

import itertools
import math
from collections.abc import Callable

from ...errors import ModelError
from .. import arith
from ..program import MAX_RANK, OP_BINARY
from ..schema import Op, Tensor
from .common import LIMITS, Builder, Unsupported, activation_range, need, quantization

# enum mlk_binary_kind
ADD, SUB, MUL, SQUARED_DIFFERENCE, MINIMUM, MAXIMUM, PRELU = range(7)
SHIFT_ADD, SHIFT_SUB = 7, 8

_DTYPES = ("INT8", "INT16")
# No multiplier and no shift: for what a kind does not look at.
NONE = (0, 0)


def _extended(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    return (1,) * (rank - len(shape)) + shape


def broadcast(op: Op, left: Tensor, right: Tensor, result: Tensor) -> list[int]:
    """The shape of a result, with the bits that say who is repeated along what.

    Neighbouring dimensions along which nothing changes are merged: mostly one is left.
    """
    rank = max(len(left.shape), len(right.shape), 1)
    shapes = _extended(left.shape, rank), _extended(right.shape, rank)
    dims: list[int] = []
    repeats: list[tuple[bool, bool]] = []
    for one, two in zip(*shapes, strict=True):
        if one != two and 1 not in (one, two):
            raise ModelError(f"{op}: {left} and {right} do not fit each other")
        if one == two == 1:
            continue
        repeated = (one != two and one == 1, one != two and two == 1)
        if repeats and repeats[-1] == repeated:
            dims[-1] *= max(one, two)
        else:
            dims.append(max(one, two))
            repeats.append(repeated)
    if math.prod(dims) != result.elements:
        raise ModelError(f"{op}: {left} and {right} do not give {result}")
    if len(dims) > MAX_RANK:
        raise Unsupported(f"more than {MAX_RANK} dimensions")
    empty = MAX_RANK - len(dims)
    bits = [
        sum(repeated[side] << (empty + i) for i, repeated in enumerate(repeats))
        for side in (0, 1)
    ]
    return [*(1,) * empty, *dims, *bits]


def _operands(
    builder: Builder, op: Op, *dtypes: str
) -> tuple[Tensor, Tensor, Tensor, tuple[float, ...], tuple[int, ...]]:
    """Both operands and the result, of one dtype, with scales and zero points."""
    tensors = builder.operand(op, 0), builder.operand(op, 1), builder.result(op)
    need(tensors[0], *dtypes)
    scales, zeros = [], []
    for tensor in tensors:
        need(tensor, tensors[0].dtype)
        scale, zero = quantization(tensor)
        if zero and tensor.dtype == "INT16":
            raise Unsupported(f"{tensor} is INT16 with zero point {zero}")
        scales.append(scale)
        zeros.append(zero)
    return (*tensors, tuple(scales), tuple(zeros))


def _step(
    builder: Builder,
    op: Op,
    kind: int,
    zeros: tuple[int, ...],
    left_shift: int,
    multipliers: tuple[tuple[int, int], ...],
    bounds: tuple[int, int],
) -> None:
    left, right = builder.operand(op, 0), builder.operand(op, 1)
    result = builder.result(op)
    builder.step(
        OP_BINARY,
        op,
        [left, right],
        [result],
        (
            kind,
            *broadcast(op, left, right, result),
            -zeros[0],
            -zeros[1],
            left_shift,
            *itertools.chain.from_iterable(multipliers),
            zeros[2],
            *bounds,
        ),
    )


def below_one(real: float) -> tuple[int, int]:
    """QuantizeMultiplierSmallerThanOneExp; TFLite aborts where it does not hold."""
    if not 0.0 < real < 1.0:
        raise ModelError(f"a ratio of scales is {real:g}, expected 0 to 1")
    multiplier, shift = arith.quantize_multiplier(real)
    if shift > 0:
        raise ModelError(f"a ratio of scales is {real:g}, expected 0 to 1")
    return multiplier, shift


def _aligned(
    scales: tuple[float, ...], left_shift: int
) -> tuple[float, tuple[int, int], tuple[int, int]]:
    """Twice the larger scale of both operands, and their multipliers to that."""
    twice = arith.f32(2.0 * max(scales[:2]))
    return twice, below_one(scales[0] / twice), below_one(scales[1] / twice)


def power_of_two(scale: float) -> int | None:
    """CheckedLog2 in kernels/internal/quantization_util.cc."""
    exact = arith.f32(arith.f32(math.log(scale)) * arith.f32(1 / math.log(2.0)))
    rounded = arith.round_away(exact)
    return rounded if abs(arith.f32(exact - rounded)) < arith.f32(1e-3) else None


def _sum(kind: int, shifted_kind: int) -> Callable[[Builder, Op], None]:
    """ADD and SUB.

    Source: Prepare in kernels/add.cc and kernels/sub.cc, internal/reference/add.h and
    sub.h.
    """

    def lower(builder: Builder, op: Op) -> None:
        left, right, _, scales, zeros = _operands(builder, op, *_DTYPES)
        wide = left.dtype == "INT16"
        bounds = activation_range(
            op, op.options.enum(0), scales[2], zeros[2], LIMITS[left.dtype]
        )
        # the schema's default; a model without options is of no such age
        if wide and op.options.flag(1, True):
            logs = [power_of_two(scale) for scale in scales]
            if None not in logs:
                if left.shape != right.shape:
                    raise Unsupported("int16 of unequal shapes with shifts")
                one, two, out = (log or 0 for log in logs)
                shifts = one - out, two - out
                if max(shifts) > 0 or 0 not in shifts or min(shifts) < -31:
                    raise ModelError(f"{op}: scales {scales} are no shift of one side")
                pairs = (0, shifts[0]), (0, shifts[1]), NONE
                _step(builder, op, shifted_kind, zeros, 0, pairs, bounds)
                return
        left_shift = 15 if wide else 20
        twice, one_to, two_to = _aligned(scales, left_shift)
        out_to = below_one(twice / arith.f32((1 << left_shift) * scales[2]))
        pairs = one_to, two_to, out_to
        _step(builder, op, kind, zeros, left_shift, pairs, bounds)

    return lower


def mul(builder: Builder, op: Op) -> None:
    """MUL (kernels/mul.cc, internal/reference/integer_ops/mul.h): float32 scales."""
    left, _, _, scales, zeros = _operands(builder, op, *_DTYPES)
    bounds = activation_range(
        op, op.options.enum(0), scales[2], zeros[2], LIMITS[left.dtype]
    )
    real = arith.f32(arith.f32(scales[0] * scales[1]) / scales[2])
    pairs = NONE, NONE, arith.quantize_multiplier(real)
    _step(builder, op, MUL, zeros, 0, pairs, bounds)


def squared_difference(builder: Builder, op: Op) -> None:
    """SQUARED_DIFFERENCE (kernels/squared_difference.cc)."""
    _, _, _, scales, zeros = _operands(builder, op, "INT8")
    left_shift = 7
    twice, one_to, two_to = _aligned(scales, left_shift)
    steps = arith.f32((1 << 2 * left_shift) * scales[2])
    pairs = one_to, two_to, below_one(twice * twice / steps)
    _step(builder, op, SQUARED_DIFFERENCE, zeros, left_shift, pairs, LIMITS["INT8"])


def prelu(builder: Builder, op: Op) -> None:
    """PRELU (PreluPrepare in kernels/activations.cc, internal/reference/prelu.h)."""
    left, _, result, scales, zeros = _operands(builder, op, "INT8")
    if left.elements != result.elements:
        raise ModelError(f"{op}: {left} does not give {result}")
    positive = arith.f32(scales[0] / scales[2])
    negative = arith.f32(arith.f32(scales[0] * scales[1]) / scales[2])
    pairs = (
        arith.quantize_multiplier(positive),
        NONE,
        arith.quantize_multiplier(negative),
    )
    _step(builder, op, PRELU, zeros, 0, pairs, LIMITS["INT8"])


def _extreme(kind: int) -> Callable[[Builder, Op], None]:
    """MINIMUM and MAXIMUM (kernels/maximum_minimum.cc): scales play no role."""

    def lower(builder: Builder, op: Op) -> None:
        left, *_ = _operands(builder, op, *_DTYPES)
        bounds = LIMITS[left.dtype]
        _step(builder, op, kind, (0, 0, 0), 0, (NONE, NONE, NONE), bounds)

    return lower


LOWER: dict[str, Callable[[Builder, Op], None]] = {
    "ADD": _sum(ADD, SHIFT_ADD),
    "MAXIMUM": _extreme(MAXIMUM),
    "MINIMUM": _extreme(MINIMUM),
    "MUL": mul,
    "PRELU": prelu,
    "SQUARED_DIFFERENCE": squared_difference,
    "SUB": _sum(SUB, SHIFT_SUB),
}

# for docs/operators.md
DTYPES = dict.fromkeys(("ADD", "MAXIMUM", "MINIMUM", "MUL", "SUB"), "int8, int16")
