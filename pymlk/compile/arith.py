# SPDX-License-Identifier: MIT
"""The arithmetic of TFLite's Prepare step, so that the engine needs no float.

Python's floats are doubles. A float32 product, quotient, sum or difference is
had exactly by computing in double and rounding once, which `f32` does.
"""

import math
import struct
from collections.abc import Callable

from ..errors import ModelError

INT32_MAX = 2**31 - 1
# MLK_WIDE_MAX_SHIFT
WIDE_MAX_SHIFT = 14


def f32(value: float) -> float:
    """Round to the nearest float32 (ties to even); overflow gives infinity."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def round_away(value: float) -> int:
    """C's round(): to the nearest integer, ties away from zero."""
    floor = math.floor(abs(value))
    nearest = floor + (abs(value) - floor >= 0.5)
    return int(math.copysign(nearest, value))


def clamp(value: int, low: int, high: int) -> int:
    """Limit a value to [low, high]."""
    return max(low, min(high, value))


def quantize_multiplier(real: float, most: int = 30) -> tuple[int, int]:
    """Split a positive scale into a Q0.31 multiplier and a power of two.

    A power above `most` is refused: `requantize` cannot shift further.

    Source: QuantizeMultiplier in tensorflow/lite/kernels/internal/
    quantization_util.cc.
    """
    if real == 0.0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    multiplier = round_away(mantissa * (1 << 31))
    if multiplier == 1 << 31:
        multiplier //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    if shift > most:
        raise ModelError(f"a ratio of scales of {real:g} is beyond 32-bit arithmetic")
    return multiplier, shift


def wide_multiplier(multiplier: int, shift: int) -> tuple[int, int]:
    """What `quantize_multiplier` gave, for 64-bit sums: Q0.15 instead of Q0.31.

    Source: MultiplyByQuantizedMultiplier of int64 in internal/common.cc.
    """
    if shift > WIDE_MAX_SHIFT:
        raise ModelError("a ratio of scales is beyond the arithmetic of int16")
    if multiplier >= 0x7FFF0000:
        return 0x7FFF, shift
    return (multiplier + (1 << 15)) >> 16, shift


def mul_high(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul of gemmlowp/fixedpoint/fixedpoint.h."""
    if a == b == -(2**31):
        return INT32_MAX
    return (a * b + (1 << 30)) >> 31


def round_shift(value: int, exponent: int) -> int:
    """RoundingDivideByPOT of gemmlowp: ties away from zero."""
    if exponent == 0:
        return value
    return (value + (1 << (exponent - 1)) - (value < 0)) >> exponent


def saturating_shift(value: int, exponent: int) -> int:
    """SaturatingRoundingMultiplyByPOT of gemmlowp for a left shift."""
    return clamp(value << exponent, -(2**31), INT32_MAX)


def wrap32(value: int) -> int:
    """Two's complement wrap to int32."""
    return ((value + 2**31) & 0xFFFFFFFF) - 2**31


def requantize(value: int, multiplier: int, shift: int) -> int:
    """MultiplyByQuantizedMultiplier with double rounding (internal/common.cc)."""
    left, right = max(shift, 0), max(-shift, 0)
    return round_shift(mul_high(wrap32(value << left), multiplier), right)


def function_table(
    function: Callable[[float], float],
    in_scale: float,
    in_zero: int,
    out_scale: float,
    out_zero: int,
) -> bytes:
    """256 int8 results of a real function, in the order of the input's bits.

    Source: PopulateLookupTable in tensorflow/lite/kernels/activations.cc, which
    computes in float32 throughout.
    """
    inverse = f32(1.0 / out_scale)

    def entry(q: int) -> int:
        transformed = f32(function(f32(in_scale * (q - in_zero))))
        rescaled = round_away(f32(transformed * inverse))
        return clamp(int(f32(rescaled + out_zero)), -128, 127)

    return table_s8(entry)


def table_s8(entry: Callable[[int], int]) -> bytes:
    """256 int8 values for int8 operands 0..127, -128..-1 (their bits as index)."""
    return bytes(entry(i - 256 if i > 127 else i) & 0xFF for i in range(256))


def logistic(x: float) -> float:
    """1 / (1 + exp(-x)) in float32 steps; exp overflows to infinity as in C."""
    try:
        power = f32(math.exp(-x))
    except OverflowError:
        power = math.inf
    return f32(1.0 / f32(1.0 + power))


def _exp_quarter(a: int) -> int:
    """Exp on [-1/4, 0) as Q0.31: a Taylor series around -1/8."""
    constant, third = 1895147668, 715827883
    x = a + (1 << 28)
    x2 = mul_high(x, x)
    x3 = mul_high(x2, x)
    x4 = mul_high(x2, x2)
    inner = round_shift(mul_high(round_shift(x4, 2) + x3, third) + x2, 1)
    return constant + mul_high(constant, x + inner)


_EXP_STEPS = (
    (-2, 1672461947),
    (-1, 1302514674),
    (0, 790015084),
    (1, 290630308),
    (2, 39332535),
    (3, 720401),
    (4, 242),
)


def exp_negative(a: int) -> int:
    """Exp of a value <= 0 given as Q5.26, as Q0.31.

    Source: exp_on_negative_values in gemmlowp/fixedpoint/fixedpoint.h.
    """
    if a == 0:
        return INT32_MAX
    quarter = 1 << 24
    rest = (a & (quarter - 1)) - quarter
    result = _exp_quarter(saturating_shift(rest, 5))
    remainder = rest - a
    for exponent, factor in _EXP_STEPS:
        if remainder & (1 << (26 + exponent)):
            result = mul_high(result, factor)
    return result


def softmax_table(in_scale: float, beta: float) -> tuple[list[int], int]:
    """Exponentials of minus 0..255 input steps, and how many of them count.

    Source: PreprocessSoftmaxScaling and CalculateInputRadius in
    tensorflow/lite/kernels/internal/quantization_util.cc, with 5 integer bits.
    """
    real = min(beta * in_scale * (1 << 26), 2.0**31 - 1.0)
    # Steps of 16 and more give a shift of 31; only a difference of 0 counts then.
    multiplier, shift = quantize_multiplier(real, 31)
    if shift < 0 or multiplier == 0:
        raise ModelError(f"SOFTMAX: input scale {in_scale:g} is too small")
    radius = math.floor(31.0 * (1 << 26) / (1 << shift))
    entries = min(radius, 255) + 1
    table = [
        exp_negative(mul_high(wrap32(-difference << shift), multiplier))
        for difference in range(entries)
    ]
    return table + [0] * (256 - entries), entries
