# SPDX-License-Identifier: MIT
"""The constant side of a matrix product, as ``struct mlk_weights`` wants it."""

import math
import struct
from typing import NamedTuple

from ...errors import ModelError
from .. import arith
from ..program import BLOCK_INPUTS, BLOCK_OUTPUTS, Data, Ref
from ..schema import Op, Tensor
from .common import Builder, Unsupported, activation_range, need, quantization


def pack(rows: list[bytes]) -> bytes:
    """Put one row of int8 weights per output into blocks of 16 outputs by 4 inputs."""
    depth = len(rows[0])
    inputs = -(-depth // BLOCK_INPUTS)
    block = inputs * BLOCK_OUTPUTS * BLOCK_INPUTS
    step = BLOCK_OUTPUTS * BLOCK_INPUTS
    packed = bytearray(-(-len(rows) // BLOCK_OUTPUTS) * block)
    for number, row in enumerate(rows):
        start = number // BLOCK_OUTPUTS * block
        start += number % BLOCK_OUTPUTS * BLOCK_INPUTS
        end = number // BLOCK_OUTPUTS * block + block
        padded = row + bytes(inputs * BLOCK_INPUTS - depth)
        for i in range(BLOCK_INPUTS):
            packed[start + i : end : step] = padded[i::BLOCK_INPUTS]
    return bytes(packed)


def signed_sum(row: bytes) -> int:
    """Sum of int8 values."""
    return sum(row) - 256 * sum(1 for w in row if w > 127)


def _padded(data: Data, values: list[int]) -> Ref:
    return data.add_s32(values + [0] * (-len(values) % BLOCK_OUTPUTS))


class Product(NamedTuple):
    """What a product is made of, in TFLite's terms."""

    op: Op
    source: Tensor
    weights: Tensor
    result: Tensor
    bias: int  # its position among the operator's inputs
    activation: int
    # FULLY_CONNECTED multiplies two float32 scales, convolutions only doubles
    single_product: bool


def multipliers(p: Product, width: int, dimension: int = 0) -> list[tuple[int, int]]:
    """Requantisation per output; `dimension` of the weights counts outputs.

    Source: PopulateConvolutionQuantizationParams and
    GetQuantizedConvolutionMultipler in tensorflow/lite/kernels/kernel_util.cc.
    """
    in_scale, _ = quantization(p.source)
    out_scale, _ = quantization(p.result)
    scales = p.weights.scales
    for scale in scales:
        if not (math.isfinite(scale) and scale > 0):
            raise ModelError(f"{p.weights}: scale {scale}, expected a positive number")
    if len(scales) == 1:
        product = in_scale * scales[0]
        if p.single_product:
            product = arith.f32(product)
        return [arith.quantize_multiplier(product / out_scale)] * width
    if len(scales) != width or p.weights.quantized_dimension != dimension:
        raise ModelError(
            f"{p.weights}: {len(scales)} scales along dimension "
            f"{p.weights.quantized_dimension}, expected {width} along dimension "
            f"{dimension}"
        )
    if any(p.weights.zero_points):
        raise ModelError(f"{p.weights}: per-channel zero points must be 0")
    return [arith.quantize_multiplier(in_scale * s / out_scale) for s in scales]


def biases(builder: Builder, op: Op, position: int, width: int) -> list[int]:
    """The int32 biases of an operator; zeros where they are left out."""
    if not builder.has(op, position):
        return [0] * width
    bias = builder.operand(op, position)
    need(bias, "INT32")
    if bias.data is None:
        raise Unsupported(f"{bias} is not constant")
    if bias.elements != width:
        raise ModelError(f"{op}: {bias} found, expected {width} biases")
    return list(struct.unpack(f"<{width}i", bias.data))


def weight_zero(weights: Tensor) -> int:
    """The zero point of weights that are quantised as a whole, nearly always 0."""
    if len(weights.scales) != 1 or not weights.zero_points:
        return 0
    zero = weights.zero_points[0]
    if not -128 <= zero <= 127:
        raise ModelError(f"{weights}: zero point {zero} is no int8")
    return zero


def lower_weights(builder: Builder, p: Product) -> tuple[int | Ref, ...]:
    """Make the words of ``struct mlk_weights``.

    The weights' first dimension is the output; all others are the inputs of a row.
    """
    if p.weights.data is None:
        raise Unsupported(f"{p.weights} is not constant")
    builder.count_weights(p.weights)
    width = p.weights.shape[0]
    depth = p.weights.elements // width
    zero = weight_zero(p.weights)
    _, in_zero = quantization(p.source)
    out_scale, out_zero = quantization(p.result)
    scaling = multipliers(p, width)
    least, most = activation_range(p.op, p.activation, out_scale, out_zero)
    bias = biases(builder, p.op, p.bias, width)
    rows = [p.weights.data[i * depth : (i + 1) * depth] for i in range(width)]
    unsigned = []
    for i, row in enumerate(rows):
        row_sum = signed_sum(row)
        # (w - wz) * (x - xz) = w*x - wz*x - xz * sum(w - wz): the last is constant
        bias[i] = arith.wrap32(bias[i] - in_zero * (row_sum - depth * zero))
        unsigned.append(arith.wrap32(bias[i] - 128 * row_sum))
    data = builder.data
    return (
        depth,
        width,
        data.add(pack(rows)),
        _padded(data, bias),
        _padded(data, unsigned),
        _padded(data, [m for m, _ in scaling]),
        _padded(data, [s for _, s in scaling]),
        out_zero,
        least,
        most,
    )
