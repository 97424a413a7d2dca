# SPDX-License-Identifier: MIT
"""The constant side of a matrix product, as ``struct mlk_weights`` wants it."""

import math
import struct
from typing import NamedTuple

from ...errors import ModelError
from .. import arith
from ..program import BLOCK_INPUTS, BLOCK_OUTPUTS, Data, Ref
from ..schema import Op, Tensor
from .common import Builder, activation_range, constant, need, quantization


def pack(rows: list[bytes], *, by_taps: bool = False) -> bytes:
    """Put one row of int8 weights per output into blocks of 16 outputs by 4 inputs.

    All inputs of a block of outputs come first or, by taps, all outputs of a block of
    inputs.
    """
    depth = len(rows[0])
    inputs, outputs = -(-depth // BLOCK_INPUTS), -(-len(rows) // BLOCK_OUTPUTS)
    block = BLOCK_OUTPUTS * BLOCK_INPUTS
    across, down = (block, outputs * block) if by_taps else (inputs * block, block)
    packed = bytearray(outputs * inputs * block)
    for number, row in enumerate(rows):
        start = number // BLOCK_OUTPUTS * across
        start += number % BLOCK_OUTPUTS * BLOCK_INPUTS
        end = start + (inputs - 1) * down + BLOCK_INPUTS
        padded = row + bytes(inputs * BLOCK_INPUTS - depth)
        for i in range(BLOCK_INPUTS):
            packed[start + i : end : down] = padded[i::BLOCK_INPUTS]
    return bytes(packed)


def _padded_pieces(row: bytes, piece: int) -> bytes:
    """Fill each piece of a row up to a whole number of blocks."""
    padded = -(-piece // BLOCK_INPUTS) * BLOCK_INPUTS
    return b"".join(
        [row[i : i + piece].ljust(padded, b"\0") for i in range(0, len(row), piece)]
    )


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
    # which dimension of the weights counts outputs, the first or the last
    outputs: int = 0


def multipliers(p: Product, width: int) -> list[tuple[int, int]]:
    """Requantisation per output.

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
    if len(scales) != width or p.weights.quantized_dimension != p.outputs:
        raise ModelError(
            f"{p.weights}: {len(scales)} scales along dimension "
            f"{p.weights.quantized_dimension}, expected {width} along dimension "
            f"{p.outputs}"
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
    data = constant(bias)
    if bias.elements != width:
        raise ModelError(f"{op}: {bias} found, expected {width} biases")
    return list(struct.unpack(f"<{width}i", data))


def weight_zero(weights: Tensor) -> int:
    """The zero point of weights that are quantised as a whole, nearly always 0."""
    if len(weights.scales) != 1 or not weights.zero_points:
        return 0
    zero = weights.zero_points[0]
    if not -128 <= zero <= 127:
        raise ModelError(f"{weights}: zero point {zero} is no int8")
    return zero


def lower_weights(
    builder: Builder, p: Product, piece: int = 0, *, by_taps: bool = False
) -> tuple[int | Ref, ...]:
    """Make the words of ``struct mlk_weights``.

    All dimensions of the weights but that of the outputs are the inputs of a row,
    which may come in pieces of some inputs.
    """
    taps = builder.weights(p.weights)
    width = p.weights.shape[p.outputs]
    depth = p.weights.elements // width
    zero = weight_zero(p.weights)
    _, in_zero = quantization(p.source)
    out_scale, out_zero = quantization(p.result)
    scaling = multipliers(p, width)
    least, most = activation_range(p.op, p.activation, out_scale, out_zero)
    bias = biases(builder, p.op, p.bias, width)
    if p.outputs:
        rows = [taps[i::width] for i in range(width)]
    else:
        rows = [taps[i * depth : (i + 1) * depth] for i in range(width)]
    unsigned = []
    for i, row in enumerate(rows):
        row_sum = signed_sum(row)
        # (w - wz) * (x - xz) = w*x - wz*x - xz * sum(w - wz): the last is constant
        bias[i] = arith.wrap32(bias[i] - in_zero * (row_sum - depth * zero))
        unsigned.append(arith.wrap32(bias[i] - 128 * row_sum))
    if piece:
        rows = [_padded_pieces(row, piece) for row in rows]
    data = builder.data
    return (
        len(rows[0]),
        width,
        data.add(pack(rows, by_taps=by_taps)),
        _padded(data, bias),
        _padded(data, unsigned),
        _padded(data, [m for m, _ in scaling]),
        _padded(data, [s for _, s in scaling]),
        out_zero,
        least,
        most,
    )
