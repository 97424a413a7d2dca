# SPDX-License-Identifier: MIT
"""More elementwise operators of one int8 operand, as tables; and LOG_SOFTMAX."""

import math
from collections.abc import Callable
from fractions import Fraction

from ...errors import ModelError
from .. import arith
from ..program import OP_LOG_SOFTMAX
from ..schema import Op
from .binary import below_one
from .common import Builder, Unsupported, need, quantization
from .table import table_step

Quant = tuple[float, int]


def _quants(builder: Builder, op: Op) -> tuple[Quant, Quant]:
    """Scales and zero points of operand and result, both int8."""
    source, result = builder.operand(op, 0), builder.result(op)
    need(source, "INT8")
    need(result, "INT8")
    return quantization(source), quantization(result)


def _rescaled(
    in_zero: int, out_zero: int, value: int, multiplier: tuple[int, int]
) -> int:
    scaled = arith.requantize(value - in_zero, *multiplier)
    return arith.clamp(scaled + out_zero, -128, 127)


def leaky_relu_multipliers(
    in_scale: float, alpha: float, out_scale: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """For what is not negative, and for what is.

    Source: LeakyReluPrepare in kernels/activations.cc.
    """
    if not math.isfinite(alpha):
        raise ModelError(f"LEAKY_RELU: alpha {alpha} found, expected a number")
    # `quantize_multiplier` is for positive scales; the sign goes with the multiplier
    real = arith.f32(arith.f32(in_scale * alpha) / out_scale)
    negative, shift = arith.quantize_multiplier(abs(real))
    identity = arith.quantize_multiplier(arith.f32(in_scale / out_scale))
    return identity, (-negative if real < 0 else negative, shift)


def leaky_relu(builder: Builder, op: Op) -> None:
    """LEAKY_RELU (QuantizeLeakyRelu in internal/reference/leaky_relu.h)."""
    (in_scale, in_zero), (out_scale, out_zero) = _quants(builder, op)
    positive, negative = leaky_relu_multipliers(in_scale, op.options.real(0), out_scale)

    def entry(q: int) -> int:
        multiplier = positive if q >= in_zero else negative
        return _rescaled(in_zero, out_zero, q, multiplier)

    table_step(builder, op, arith.table_s8(entry))


def absolute(builder: Builder, op: Op) -> None:
    """ABS (AbsEvalQuantized in kernels/elementwise.cc)."""
    (in_scale, in_zero), (out_scale, out_zero) = _quants(builder, op)
    multiplier = arith.quantize_multiplier(arith.f32(in_scale / out_scale))

    def entry(q: int) -> int:
        value = abs(q - in_zero)
        if in_scale != out_scale:
            value = arith.requantize(value, *multiplier)
        return arith.clamp(value + out_zero, -128, 127)

    table_step(builder, op, arith.table_s8(entry))


def negate(builder: Builder, op: Op) -> None:
    """NEG, of which no runtime has a form for int8: the real result, rounded once."""
    (in_scale, in_zero), (out_scale, out_zero) = _quants(builder, op)
    ratio = Fraction(in_scale) / Fraction(out_scale)

    def entry(q: int) -> int:
        value = (in_zero - q) * ratio
        nearest = math.floor(abs(value) + Fraction(1, 2))
        return arith.clamp((nearest if value > 0 else -nearest) + out_zero, -128, 127)

    table_step(builder, op, arith.table_s8(entry))


def _wrap16(value: int) -> int:
    return ((value + 2**15) & 0xFFFF) - 2**15


def _clamp16(value: int) -> int:
    return arith.clamp(value, -(2**15), 2**15 - 1)


def _mul_high16(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul of int16."""
    return _clamp16((a * b + (1 << 14)) >> 15)


def _round_shift16(value: int, exponent: int) -> int:
    """RoundingDivideByPOT of int16, also with more than its 15 bits."""
    mask = _wrap16((1 << exponent) - 1)
    threshold = (mask >> 1) + (value < 0)
    return _wrap16((value >> exponent) + ((value & mask) > threshold))


def _multiplier16(real: float) -> tuple[int, int]:
    """QuantizeMultiplier, then DownScaleInt32ToInt16Multiplier."""
    multiplier, shift = arith.quantize_multiplier(real)
    if multiplier >= 2**31 - 1 - (1 << 15):
        return 2**15 - 1, shift
    return (multiplier + (1 << 15)) >> 16, shift


def hard_swish(builder: Builder, op: Op) -> None:
    """HARD_SWISH in 16-bit fixed point.

    Source: HardSwishPrepare in kernels/activations.cc, internal/reference/hard_swish.h.
    """
    (in_scale, in_zero), (out_scale, out_zero) = _quants(builder, op)
    fine_scale = arith.f32(in_scale / 128.0)
    out_multiplier, out_shift = _multiplier16(arith.f32(fine_scale / out_scale))
    if out_shift > 0:
        raise ModelError(f"{op}: output scale {out_scale:g} is too small")
    # 3 is 32768 of these
    reluish_scale = arith.f32(3.0 / 32768.0)
    multiplier, shift = _multiplier16(arith.f32(fine_scale / reluish_scale))

    def entry(q: int) -> int:
        fine = (q - in_zero) * 128
        unshifted = _mul_high16(fine, out_multiplier)
        gate = fine
        if shift > 0:
            gate = _clamp16(gate << (shift - 1))
        gate = _mul_high16(gate, multiplier)
        if shift > 0:
            gate = _clamp16(gate << 1)
        if shift < 0:
            gate = _round_shift16(gate, -shift)
        # from [-1, 1] to [0, 1]
        gate = (gate + (1 << 15)) >> 1
        product = gate * unshifted
        # truncates; the gate is never negative
        high = product >> 15 if product >= 0 else -(-product >> 15)
        result = _wrap16(_round_shift16(high, -out_shift) + out_zero)
        return arith.clamp(result, -128, 127)

    table_step(builder, op, arith.table_s8(entry))


def _inverse_root(value: int) -> tuple[int, int]:
    """GetInvSqrtQuantizedMultiplierExp in kernels/internal/common.h, for 1 to 255."""
    if value <= 1:
        return arith.INT32_MAX, 0
    pairs = (31 - value.bit_length()) // 2 - 1
    right = 11 - pairs
    half = arith.round_shift((value << 2 * pairs) >> 1, 1)
    half_three = (1 << 28) + (1 << 27)
    x = 1 << 28
    for _ in range(5):
        # Q3.28: a product of three has 9 integer bits, one of two has 6
        x2 = arith.mul_high(x, x)
        x3 = arith.saturating_shift(arith.mul_high(x2, x), 6)
        rest = arith.mul_high(half_three, x) - arith.mul_high(half, x3)
        x = arith.saturating_shift(rest, 3)
    x = arith.mul_high(x, 1518500250)
    if right < 0:
        x <<= -right
        right = 0
    return x, -right


def rsqrt(builder: Builder, op: Op) -> None:
    """RSQRT (RsqrtEvalQuantized in kernels/elementwise.cc).

    There a negative operand makes the call fail. A run cannot fail, so it gives the
    highest value then, as 0 does.
    """
    (in_scale, in_zero), (out_scale, out_zero) = _quants(builder, op)
    real = 1.0 / arith.f32(arith.f32(math.sqrt(in_scale)) * out_scale)
    multiplier, shift = arith.quantize_multiplier(real)
    fraction = 20

    def entry(q: int) -> int:
        value = q - in_zero
        if value <= 0:
            return 127
        inverse, exponent = _inverse_root(value)
        root = arith.requantize(1, inverse, exponent + fraction)
        scaled = arith.requantize(root, multiplier, shift - fraction)
        return arith.clamp(scaled + out_zero, -128, 127)

    if shift - fraction < -31 or shift - fraction > 30:
        raise Unsupported(f"scales {in_scale:g} and {out_scale:g} are far apart")
    table_step(builder, op, arith.table_s8(entry))


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _gelu(x: float) -> float:
    """GeluTransform in internal/reference/gelu.h, step by step in float32."""
    f32 = arith.f32
    tail = f32(math.erfc(f32(x * f32(-math.sqrt(0.5)))))
    return f32(f32(0.5 * x) * tail)


def _gelu_approximate(x: float) -> float:
    """GeluTransformApproximate, likewise."""
    f32 = arith.f32
    cube = f32(f32(f32(f32(0.044715) * x) * x) * x)
    inner = f32(f32(math.sqrt(2.0 / math.pi)) * f32(x + cube))
    return f32(f32(0.5 * x) * f32(1.0 + f32(math.tanh(inner))))


def _sampled(builder: Builder, op: Op, function: Callable[[float], float]) -> None:
    """Table of a function without bounds.

    Where its value is beyond int32 the reference's conversion is undefined in C.
    """
    (in_scale, in_zero), (out_scale, out_zero) = _quants(builder, op)
    inverse = arith.f32(1.0 / out_scale)
    for q in range(-128, 128):
        value = arith.f32(function(arith.f32(in_scale * (q - in_zero))))
        if not abs(arith.f32(value * inverse)) < 2.0**31 - 256:
            raise Unsupported(f"a result is far beyond the scale {out_scale:g}")
    table = arith.function_table(function, in_scale, in_zero, out_scale, out_zero)
    table_step(builder, op, table)


def exp(builder: Builder, op: Op) -> None:
    """EXP (kernels/exp.cc: LUTPopulate in internal/common.h)."""
    _sampled(builder, op, _exp)


def gelu(builder: Builder, op: Op) -> None:
    """GELU (kernels/activations.cc: GeluPrepare)."""
    _sampled(builder, op, _gelu_approximate if op.options.flag(0) else _gelu)


def log_softmax(builder: Builder, op: Op) -> None:
    """LOG_SOFTMAX.

    Source: LogSoftmaxPrepare in kernels/activations.cc, PreprocessLogSoftmaxScalingExp
    in internal/quantization_util.cc, internal/reference/integer_ops/log_softmax.h.
    """
    source, result = builder.operand(op, 0), builder.result(op)
    (in_scale, _), (out_scale, out_zero) = _quants(builder, op)
    if out_scale != 1 / 16 or out_zero != 127:
        raise ModelError(
            f"{op}: {result} has scale {out_scale:g} and zero point {out_zero}, "
            "expected 1/16 and 127"
        )
    if not source.shape or not source.elements or source.shape != result.shape:
        raise ModelError(f"{op}: {source} does not give {result}")
    depth = source.shape[-1]
    if depth > 4095:
        raise Unsupported(f"{depth} classes, at most 4095")
    real = min(in_scale * (1 << 26), 2.0**31 - 1.0)
    multiplier, shift = arith.quantize_multiplier(real, 31)
    if real <= 1.0 or shift < 0:
        raise ModelError(f"{op}: input scale {in_scale:g} is too small")
    reverse, reverse_shift = below_one((1 << (31 - shift)) / multiplier)
    entries = min(math.floor(31.0 * (1 << 26) / (1 << shift)), 255) + 1
    differences = [
        arith.mul_high(arith.wrap32(-difference << shift), multiplier)
        for difference in range(entries)
    ]
    exps = [arith.round_shift(arith.exp_negative(d), 12) for d in differences]
    rest = [0] * (256 - entries)
    builder.step(
        OP_LOG_SOFTMAX,
        op,
        [source],
        [result],
        (
            source.elements // depth,
            depth,
            builder.data.add_s32(exps + rest),
            builder.data.add_s32(differences + rest),
            entries,
            reverse,
            reverse_shift,
        ),
    )


LOWER: dict[str, Callable[[Builder, Op], None]] = {
    "GELU": gelu,
    "HARD_SWISH": hard_swish,
    "LOG_SOFTMAX": log_softmax,
    "NEG": negate,
}

# for docs/operators.md
EXCEPTIONS = {
    "NEG": "within half a step of the real result, rounded once: 2.14 and tflite-micro "
    "have no int8, and LiteRT forgets scales and zero points"
}
