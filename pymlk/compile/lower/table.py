# SPDX-License-Identifier: MIT
"""Elementwise operators of one 8-bit operand: a table; and the softmax's table."""

import math
from collections.abc import Callable

from ...errors import ModelError
from .. import arith
from ..program import OP_LUT, OP_SOFTMAX
from ..schema import Op
from .common import Builder, Unsupported, need, quantization


def table_step(builder: Builder, op: Op, table: bytes) -> None:
    """Add a step that looks every byte up."""
    source = builder.operand(op, 0)
    result = builder.result(op)
    if result.elements != source.elements:
        raise ModelError(f"{op}: {source} does not give {result}")
    builder.step(OP_LUT, op, [source], [result], (builder.data.add(table),))


def _function(function: Callable[[float], float]) -> Callable[[Builder, Op], None]:
    def lower(builder: Builder, op: Op) -> None:
        source, result = builder.operand(op, 0), builder.result(op)
        need(source, "INT8")
        need(result, "INT8")
        table = arith.function_table(
            function, *quantization(source), *quantization(result)
        )
        table_step(builder, op, table)

    return lower


def _relu(low: float, high: float | None) -> Callable[[Builder, Op], None]:
    """RELU family: ReluPrepare and QuantizedReluX in kernels/activations.cc."""

    def lower(builder: Builder, op: Op) -> None:
        source, result = builder.operand(op, 0), builder.result(op)
        need(source, "INT8")
        need(result, "INT8")
        (in_scale, in_zero), (out_scale, out_zero) = (
            quantization(source),
            quantization(result),
        )
        multiplier, shift = arith.quantize_multiplier(arith.f32(in_scale / out_scale))
        least = max(-128, out_zero + arith.round_away(arith.f32(low / out_scale)))
        most = 127
        if high is not None:
            most = min(most, out_zero + arith.round_away(arith.f32(high / out_scale)))

        def entry(q: int) -> int:
            scaled = arith.requantize(q - in_zero, multiplier, shift)
            return min(max(out_zero + scaled, least), most)

        table_step(builder, op, arith.table_s8(entry))

    return lower


def softmax(builder: Builder, op: Op) -> None:
    """SOFTMAX: kernels/activations.cc, internal/reference/softmax.h."""
    source, result = builder.operand(op, 0), builder.result(op)
    need(source, "INT8")
    need(result, "INT8", "INT16")
    in_scale, _ = quantization(source)
    out_scale, out_zero = quantization(result)
    # the reference allows for one step in a thousand with int16
    levels, miss = (256, 0.0) if result.dtype == "INT8" else (65536, 1e-3)
    if abs(out_scale * levels - 1) > miss or out_zero != -levels // 2:
        raise ModelError(
            f"{op}: {result} has scale {out_scale:g} and zero point {out_zero}, "
            f"expected 1/{levels} and {-levels // 2}"
        )
    if not source.shape or not source.elements or source.shape != result.shape:
        raise ModelError(f"{op}: {source} does not give {result}")
    depth = source.shape[-1]
    if depth > 4095:
        raise Unsupported(f"{depth} classes, at most 4095")
    beta = op.options.real(0)
    if not (math.isfinite(beta) and beta > 0):
        raise ModelError(f"{op}: beta {beta} found, expected a positive number")
    table, entries = arith.softmax_table(in_scale, beta)
    builder.step(
        OP_SOFTMAX,
        op,
        [source],
        [result],
        (source.elements // depth, depth, builder.data.add_s32(table), entries),
    )


LOWER: dict[str, Callable[[Builder, Op], None]] = {
    "LOGISTIC": _function(arith.logistic),
    "RELU": _relu(0.0, None),
    "RELU_0_TO_1": _relu(0.0, 1.0),
    "RELU6": _relu(0.0, 6.0),
    "RELU_N1_TO_1": _relu(-1.0, 1.0),
    "SOFTMAX": softmax,
    "TANH": _function(math.tanh),
}
