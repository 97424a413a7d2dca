# SPDX-License-Identifier: MIT
"""The fixed-point arithmetic against its definitions, and C against Python.

The definitions are those of gemmlowp, written with unbounded integers and fractions:
``SaturatingRoundingDoublingHighMul`` divides by 2^31, halves away from zero, as C's
truncating division of the nudged product does; ``RoundingDivideByPOT`` rounds halves
away from zero.
"""

import itertools
import math
import os
from fractions import Fraction

import pytest
from helpers.engine_c import engine
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pymlk import ModelError
from pymlk.compile import arith

FACTOR = int(os.environ.get("PYMLK_EXAMPLES", "0"))
settings.register_profile(
    "arith",
    max_examples=1000 * max(FACTOR, 1),
    derandomize=not FACTOR,
    deadline=None,
    print_blob=True,
)
ARITH = settings.get_profile("arith")

LOW, HIGH = -(2**31), 2**31 - 1
edges = st.sampled_from(
    (LOW, LOW + 1, -(2**30), -1, 0, 1, 2**30 - 1, 2**30, 2**30 + 1, HIGH - 1, HIGH)
)
int32 = st.one_of(edges, st.integers(LOW, HIGH), st.integers(-5000, 5000))
multipliers = st.one_of(st.just(0), st.integers(2**30, HIGH), st.integers(0, HIGH))
shifts = st.integers(-31, 30)


def truncated(numerator, denominator):
    """C's division."""
    quotient = abs(numerator) // denominator
    return quotient if numerator >= 0 else -quotient


def high_mul(a, b):
    """Gemmlowp's definition, line by line."""
    if a == b == LOW:
        return HIGH
    product = a * b
    nudge = 2**30 if product >= 0 else 1 - 2**30
    return truncated(product + nudge, 2**31)


def nearest(value):
    """The nearest integer to a fraction, halves away from zero."""
    magnitude = math.floor(abs(value) + Fraction(1, 2))
    return magnitude if value >= 0 else -magnitude


def requantize(x, multiplier, shift):
    """MultiplyByQuantizedMultiplier with double rounding."""
    shifted = (x * 2 ** max(shift, 0) + 2**31) % 2**32 - 2**31
    return nearest(Fraction(high_mul(shifted, multiplier), 2 ** max(-shift, 0)))


@ARITH
@given(int32, int32)
@example(LOW, LOW)
@example(LOW, HIGH)
@example(-1, 2**30)
@example(1, 2**30)
def test_mul_high(a, b):
    """Adding 2^30 and shifting is gemmlowp's nudge and division, for either sign."""
    assert arith.mul_high(a, b) == high_mul(a, b)
    assert engine().shim_mul_high(a, b) == high_mul(a, b)


@ARITH
@given(int32, st.integers(0, 31))
@example(LOW, 31)
@example(HIGH, 31)
@example(-1, 0)
@example(-1, 1)
@example(-3, 1)
def test_round_shift(value, exponent):
    """Halves away from zero, and no change at all for exponent 0."""
    expected = nearest(Fraction(value, 2**exponent))
    assert arith.round_shift(value, exponent) == expected
    assert engine().shim_round_shift(value, exponent) == expected


@ARITH
@given(int32, multipliers, shifts)
@example(LOW, HIGH, 30)
@example(LOW, HIGH, -31)
def test_requantize(x, multiplier, shift):
    """Two roundings; a left shift wraps as int32 does."""
    expected = requantize(x, multiplier, shift)
    assert arith.requantize(x, multiplier, shift) == expected
    assert engine().shim_requant(x, multiplier, shift) == expected


def test_double_rounding_is_not_single():
    """The contract's choice matters: here a single rounding gives another number."""
    found = [
        x
        for x in range(-5000, 5000)
        if requantize(x, 1_234_567_891, -6)
        != nearest(Fraction(x * 1_234_567_891, 2**37))
    ]
    assert found


@ARITH
@given(int32, int32, int32)
def test_clamp(x, low, high):
    """Python's and C's agree wherever low is not above high."""
    low, high = min(low, high), max(low, high)
    assert engine().shim_clamp(x, low, high) == arith.clamp(x, low, high)
    assert low <= arith.clamp(x, low, high) <= high


positive = st.floats(1e-9, 2.0**29, allow_subnormal=False)


@ARITH
@given(positive)
@example(1.0)
@example(0.5)
@example(math.nextafter(1.0, 0.0))
@example(math.nextafter(2.0**29, 0.0))
def test_quantize_multiplier(real):
    """The nearest 31-bit mantissa of the exact value."""
    multiplier, shift = arith.quantize_multiplier(real)
    assert 2**30 <= multiplier <= HIGH
    assert -31 <= shift <= 30
    exact = Fraction(real)
    assert 2 ** Fraction(shift - 1) <= exact * Fraction(2**31 + 1, 2**31)
    error = abs(Fraction(multiplier, 2**31) * Fraction(2) ** shift - exact)
    assert error <= Fraction(2) ** (shift - 32)
    # no neighbour is nearer
    for other in (multiplier - 1, multiplier + 1):
        distance = abs(Fraction(other, 2**31) * Fraction(2) ** shift - exact)
        assert distance >= error


@pytest.mark.parametrize("real", [0.0, 1e-30, 2.0**-40, 2.0**-33])
def test_a_multiplier_too_small_is_zero(real):
    """As in TFLite: below 2^-32 nothing is left of an int32."""
    assert arith.quantize_multiplier(real) == (0, 0)


@pytest.mark.parametrize("real", [2.0**30, 2.0**31, 1e30])
def test_a_multiplier_too_large_is_refused(real):
    """The engine cannot shift that far."""
    with pytest.raises(ModelError, match="beyond 32-bit"):
        arith.quantize_multiplier(real)


@ARITH
@given(st.floats(-(2.0**40), 2.0**40))
@example(0.49999999999999994)
@example(-0.49999999999999994)
@example(2.5)
@example(-2.5)
@example(4503599627370497.5 / 2)
def test_round_away(value):
    """C's round(), without the error that adding 0.5 makes."""
    assert arith.round_away(value) == nearest(Fraction(value))


@ARITH
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_f32(value):
    """The nearest float32; infinity where there is none."""
    import struct

    found = arith.f32(value)
    assert arith.f32(found) == found or math.isnan(found)
    if abs(value) < 3.4e38:
        assert abs(found - value) <= max(abs(value) * 2.0**-24, 2.0**-150)
        assert struct.unpack("<f", struct.pack("<f", found))[0] == found


def test_f32_overflow():
    """Beyond float32: infinity, not an exception."""
    assert (arith.f32(1e39), arith.f32(-1e39)) == (math.inf, -math.inf)


@ARITH
@given(st.integers(-(2**31), 0))
@example(0)
@example(-1)
@example(-(2**24))
@example(-(2**26))
@example(-(2**31))
def test_exp_negative(a):
    """Gemmlowp's exponential: within 2^-22 of the truth, never negative."""
    found = arith.exp_negative(a)
    assert 0 <= found <= HIGH
    assert abs(found / 2**31 - math.exp(a / 2**26)) < 2.0**-22


def test_exp_negative_falls():
    """Over a grid it never rises."""
    values = [arith.exp_negative(-k * 2**18) for k in range(8192)]
    assert values[0] == HIGH
    assert all(a >= b for a, b in itertools.pairwise(values))
    assert values[-1] == 0


@settings(ARITH, max_examples=60 * max(FACTOR, 1))
@given(st.floats(1e-4, 20.0), st.floats(0.1, 5.0))
def test_softmax_table(scale, beta):
    """Exponentials of the steps, zero beyond the radius."""
    scale = arith.f32(scale)
    table, entries = arith.softmax_table(scale, beta)
    assert len(table) == 256
    assert 1 <= entries <= 256
    assert table[0] == HIGH
    assert table[entries:] == [0] * (256 - entries)
    for difference in range(entries):
        exact = math.exp(-difference * scale * beta)
        assert abs(table[difference] / 2**31 - exact) < 2.0**-20
    # what is left out is smaller than an output step
    if entries < 256:
        assert math.exp(-entries * scale * beta) < 1 / 512


def test_softmax_table_of_steps_without_size():
    """TFLite aborts on these; here they are refused."""
    with pytest.raises(ModelError, match="too small"):
        arith.softmax_table(1e-9, 1.0)


@settings(ARITH, max_examples=200 * max(FACTOR, 1))
@given(st.floats(-200.0, 200.0))
def test_logistic(x):
    """Within float32 of the real function, also where exp overflows."""
    x = arith.f32(x)
    exact = 1 / (1 + math.exp(-x))
    assert abs(arith.logistic(x) - exact) <= 2.0**-23
    assert 0.0 <= arith.logistic(x) <= 1.0


def test_function_table_is_in_the_order_of_bits():
    """Index 0..127 are operands 0..127, 128..255 are -128..-1."""
    table = arith.function_table(lambda x: x, 1.0, 0, 1.0, 0)
    assert table == bytes(range(256))
