# SPDX-License-Identifier: MIT
"""Operators of one int16 operand, and QUANTIZE to and from int16 and int32."""

import math
import struct
from collections.abc import Callable

from ...errors import ModelError
from .. import arith
from ..program import (
    OP_LUT_S16,
    OP_REQUANTIZE,
    OP_RSQRT_S16,
    OP_SIGMOID_S16,
    OP_SOFTMAX_S16,
)
from ..schema import Op, Tensor
from . import elementwise
from .binary import power_of_two
from .common import LIMITS, Builder, Unsupported, need, quantization, symmetric

Lower = Callable[[Builder, Op], None]
_ROOT_FRACTION = 20  # MLK_RSQRT_FRACTION
_INTEGERS = {
    "INT8": LIMITS["INT8"],
    "INT16": LIMITS["INT16"],
    "INT32": (-(2**31), 2**31 - 1),
}


def _pair(builder: Builder, op: Op) -> tuple[Tensor, Tensor, float, float]:
    """Operand and result, both int16, with their scales."""
    source, result = builder.operand(op, 0), builder.result(op)
    need(source, "INT16")
    need(result, "INT16")
    if source.elements != result.elements:
        raise ModelError(f"{op}: {source} does not give {result}")
    return source, result, symmetric(source), symmetric(result)


def requantize(builder: Builder, op: Op) -> None:
    """QUANTIZE between int8, int16 and int32 (internal/reference/requantize.h)."""
    source, result = builder.operand(op, 0), builder.result(op)
    need(source, *_INTEGERS)
    need(result, *_INTEGERS)
    if source.elements != result.elements:
        raise ModelError(f"{op}: {source} does not give {result}")
    for tensor in (source, result):
        # the reference has zero points of int16, but not from int16 to int16
        if tensor.dtype == "INT32" or source.dtype == result.dtype:
            symmetric(tensor)
    (in_scale, in_zero), (out_scale, out_zero) = (
        quantization(source),
        quantization(result),
    )
    multiplier = arith.quantize_multiplier(in_scale / out_scale)
    builder.step(
        OP_REQUANTIZE,
        op,
        [source],
        [result],
        (in_zero, *multiplier, *multiplier, out_zero, *_INTEGERS[result.dtype], 0),
    )


def leaky_relu(builder: Builder, op: Op) -> None:
    """LEAKY_RELU of int16 (internal/reference/leaky_relu.h)."""
    source, result, in_scale, out_scale = _pair(builder, op)
    positive, negative = elementwise.leaky_relu_multipliers(
        in_scale, op.options.real(0), out_scale
    )
    if negative[0] < 0:
        raise Unsupported("int16 with a negative alpha")
    params = (0, *positive, *negative, 0, *LIMITS["INT16"], 0)
    builder.step(OP_REQUANTIZE, op, [source], [result], params)


def absolute(builder: Builder, op: Op) -> None:
    """ABS of int16 (AbsEvalQuantized in kernels/elementwise.cc)."""
    source, result, in_scale, out_scale = _pair(builder, op)
    multiplier = arith.quantize_multiplier(arith.f32(in_scale / out_scale))
    params = (0, *multiplier, *multiplier, 0, *LIMITS["INT16"], 1)
    builder.step(OP_REQUANTIZE, op, [source], [result], params)


def rsqrt(builder: Builder, op: Op) -> None:
    """RSQRT of int16, which 2.14 lacks (tflite-micro's kernels/elementwise.cc).

    There the scales' product is of doubles, and a negative operand makes the call fail.
    A run cannot fail, so it gives the highest value then, as 0 does.
    """
    source, result, in_scale, out_scale = _pair(builder, op)
    multiplier, shift = arith.quantize_multiplier(
        1.0 / (math.sqrt(in_scale) * out_scale)
    )
    shift -= _ROOT_FRACTION
    if shift < -31:
        raise Unsupported(f"scales {in_scale:g} and {out_scale:g} are far apart")
    builder.step(OP_RSQRT_S16, op, [source], [result], (multiplier, shift))


def relu(low: float, high: float | None) -> Lower:
    """RELU and RELU6 of int16: as of int8, kernels/activations.cc."""

    def lower(builder: Builder, op: Op) -> None:
        source, result, in_scale, out_scale = _pair(builder, op)
        multiplier = arith.quantize_multiplier(arith.f32(in_scale / out_scale))
        least, most = LIMITS["INT16"]
        least = max(least, arith.round_away(arith.f32(low / out_scale)))
        if high is not None:
            most = min(most, arith.round_away(arith.f32(high / out_scale)))
        if least > most:
            raise ModelError(f"{op}: no output value is left")
        params = (0, *multiplier, *multiplier, 0, least, most, 0)
        builder.step(OP_REQUANTIZE, op, [source], [result], params)

    return lower


def _sigmoid_samples() -> bytes:
    """The logistic function of i/24 in 0.16 format, but for the last, which is 1.

    Source: sigmoid_table_uint16 in kernels/internal/common.h. There each sample is off
    by half of what the straight line to the next one misses in its middle.
    """

    def logistic(i: float) -> float:
        return 65536.0 / (1.0 + math.exp(-i / 24))

    samples = []
    for i in range(255):
        miss = logistic(i + 0.5) - (logistic(i) + logistic(i + 1)) / 2
        samples.append(arith.round_away(logistic(i) + miss / 2))
    return struct.pack("<256H", *samples, 65535)


SIGMOID = _sigmoid_samples()


def sigmoid(tanh: int) -> Lower:
    """LOGISTIC and TANH of int16.

    Source: SigmoidPrepare and TanhPrepare in kernels/activations.cc, internal/
    reference/integer_ops/logistic.h and tanh.h.
    """

    def lower(builder: Builder, op: Op) -> None:
        source, result, in_scale, out_scale = _pair(builder, op)
        if power_of_two(out_scale) != -15 or (not tanh and out_scale != 2.0**-15):
            raise ModelError(f"{op}: {result} has scale {out_scale:g}, expected 2^-15")
        power = power_of_two(in_scale)
        shift = 12 + power if power is not None else -1
        if shift == 0 or (shift == 1 and tanh):
            multiplier, shift = 3 << shift, 0
        else:
            # the three quarters are in the table's steps of 1/24
            real, shift = in_scale * 4096.0 * 3.0, 0
            while real <= 32767.0 / 2.0 and shift <= 30:
                real *= 2.0
                shift += 1
            multiplier = int(real)
        if multiplier > 32767 or shift > 30:
            raise Unsupported(f"input scale {in_scale:g}")
        params = (builder.data.add(SIGMOID), multiplier, shift, tanh)
        builder.step(OP_SIGMOID_S16, op, [source], [result], params)

    return lower


def sampled(
    function: Callable[[float], float],
    quants: tuple[float, int, float, int],
    number: Callable[[float], float],
) -> bytes:
    """513 samples of a function of int16, between which straight lines are drawn.

    Source: LUTPopulateInt16 in kernels/internal/common.h; `number` rounds each step as
    its floating-point type does.
    """
    in_scale, in_zero, out_scale, out_zero = quants
    low, high = LIMITS["INT16"]

    def nearest(value: float) -> float:
        return float(arith.round_away(value))

    first = number(in_scale * (low - in_zero))
    last = number(in_scale * (high - in_zero))
    step = number(number(last - first) / 512)
    half = number(step / 2)
    span = number(out_scale * (high - out_zero)) - number(out_scale * (low - out_zero))
    inverse = number(65536 / number(span))

    def at(x: float) -> float:
        return number(number(function(x)) * inverse)

    samples = []
    for i in range(512):
        x = number(first + number(i * step))
        value, after = at(x), at(number(first + number((i + 1) * step)))
        middle = nearest(number(number(after + nearest(value)) / 2))
        error = middle - nearest(at(number(x + half)))
        samples.append(arith.clamp(int(nearest(value) - nearest(error / 2)), low, high))
    samples.append(arith.clamp(int(nearest(at(last))), low, high))
    return struct.pack("<513h", *samples)


def exp(builder: Builder, op: Op) -> None:
    """EXP of int16 (kernels/exp.cc)."""
    source, result, in_scale, out_scale = _pair(builder, op)
    # beyond that the reference's sums of float32 are infinities and no numbers
    if in_scale * 32768 > 80 or out_scale < 1e-30:
        raise Unsupported(f"scales {in_scale:g} and {out_scale:g}")
    samples = sampled(math.exp, (in_scale, 0, out_scale, 0), arith.f32)
    params = (builder.data.add(samples),)
    builder.step(OP_LUT_S16, op, [source], [result], params)


def softmax(builder: Builder, op: Op) -> None:
    """SOFTMAX of int16.

    Source: SoftmaxPrepare in kernels/activations.cc, SoftmaxInt16 in internal/
    reference/softmax.h. Its tables are computed in double.
    """
    source, result, in_scale, _ = _pair(builder, op)
    if not source.shape or not source.elements or source.shape != result.shape:
        raise ModelError(f"{op}: {source} does not give {result}")
    depth = source.shape[-1]
    if depth > 65535:
        raise Unsupported(f"{depth} classes, at most 65535")
    beta = op.options.real(0)
    if not (math.isfinite(beta) and beta > 0):
        raise ModelError(f"{op}: beta {beta} found, expected a positive number")
    real = arith.f32(in_scale * beta) / (10.0 / 65535.0)
    multiplier = arith.quantize_multiplier(real)
    steps = 65535.0
    exps = sampled(math.exp, (10.0 / steps, 32767, 2.0 / steps, 0), float)
    reciprocals = sampled(
        lambda x: 1.0 / (1.0 + x), (1.0 / steps, -32768, 2.0 / steps, 0), float
    )
    builder.step(
        OP_SOFTMAX_S16,
        op,
        [source],
        [result],
        (
            source.elements // depth,
            depth,
            builder.data.add(exps),
            builder.data.add(reciprocals),
            *multiplier,
        ),
    )
