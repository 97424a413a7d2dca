# SPDX-License-Identifier: MIT
"""FULLY_CONNECTED."""

import struct

from ...errors import ModelError
from .. import arith
from ..program import OP_FULLY_CONNECTED
from ..schema import Op
from .common import (
    Builder,
    Unsupported,
    activation_range,
    biases,
    need,
    quantization,
    weight_multipliers,
)


def fully_connected(builder: Builder, op: Op) -> None:
    """Lower FULLY_CONNECTED (integer_ops/fully_connected.h)."""
    source, weights = builder.operand(op, 0), builder.operand(op, 1)
    result = builder.result(op)
    for tensor in (source, weights, result):
        need(tensor, "INT8")
    if weights.data is None:
        raise Unsupported(f"{weights} is not constant")
    if op.options.enum(1) != 0:
        raise Unsupported("shuffled weights")
    if len(weights.shape) != 2 or not weights.elements:
        raise ModelError(f"{op}: {weights} found, expected width x depth")
    width, depth = weights.shape
    rows = source.elements // depth
    if rows == 0 or source.elements % depth or result.elements != rows * width:
        raise ModelError(f"{op}: {source} times {weights} does not give {result}")

    builder.count_weights(weights)
    _, in_zero = quantization(source)
    out_scale, out_zero = quantization(result)
    multipliers = weight_multipliers(source, weights, result, width)
    per_tensor = len(weights.scales) == 1
    weight_zero = weights.zero_points[0] if per_tensor and weights.zero_points else 0
    if not -128 <= weight_zero <= 127:
        raise ModelError(f"{weights}: zero point {weight_zero} is no int8")
    least, most = activation_range(op, op.options.enum(0), out_scale, out_zero)
    bias = biases(builder, op, 2, width)
    # (w - wz) * (x - xz) = w*x - wz*x - xz * sum(w - wz): the last is constant
    for row in range(width):
        row_sum = sum(struct.unpack_from(f"<{depth}b", weights.data, row * depth))
        bias[row] = arith.wrap32(bias[row] - in_zero * (row_sum - depth * weight_zero))
    data = builder.data
    builder.step(
        OP_FULLY_CONNECTED,
        op,
        [source],
        [result],
        (
            rows,
            depth,
            width,
            depth,
            data.add(weights.data),
            data.add_s32(bias),
            data.add_s32([m for m, _ in multipliers]),
            data.add_s32([s for _, s in multipliers]),
            -weight_zero,
            out_zero,
            least,
            most,
        ),
        macs=rows * depth * width,
    )


LOWER = {"FULLY_CONNECTED": fully_connected}
