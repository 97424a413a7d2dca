# SPDX-License-Identifier: MIT
"""BATCH_MATMUL."""

import math

from ...errors import ModelError
from .. import arith
from ..program import OP_BATCH_MATMUL
from ..schema import Op
from .common import Builder, Unsupported, need, quantization, symmetric

BATCH_RANK = 4  # MLK_MATMUL_BATCH_RANK


def batch_matmul(builder: Builder, op: Op) -> None:
    """BATCH_MATMUL (kernels/batch_matmul.cc, internal/reference/batch_matmul.h)."""
    left, right = builder.operand(op, 0), builder.operand(op, 1)
    result = builder.result(op)
    need(left, "INT8", "INT16")
    for tensor in (left, right, result):
        need(tensor, left.dtype)
    if min(len(left.shape), len(right.shape)) < 2:
        raise ModelError(f"{op}: {left} and {right} found, expected matrices")
    if max(len(left.shape), len(right.shape)) > BATCH_RANK + 2:
        raise Unsupported(f"more than {BATCH_RANK + 2} dimensions")
    (in_scale, in_zero), (right_scale, right_zero), (out_scale, out_zero) = (
        quantization(left),
        quantization(right),
        quantization(result),
    )
    transposed = op.options.flag(0), op.options.flag(1)
    rows, depth = left.shape[-2:][:: -1 if transposed[0] else 1]
    other, columns = right.shape[-2:][:: -1 if transposed[1] else 1]
    ranks = BATCH_RANK - len(left.shape) + 2, BATCH_RANK - len(right.shape) + 2
    batches = (1,) * ranks[0] + left.shape[:-2], (1,) * ranks[1] + right.shape[:-2]
    batch = [max(one, two) for one, two in zip(*batches, strict=True)]
    fit = all(dim in (1, batch[i]) for side in batches for i, dim in enumerate(side))
    if depth != other or not depth or not fit:
        raise ModelError(f"{op}: {left} and {right} do not fit each other")
    if math.prod(batch) * rows * columns != result.elements:
        raise ModelError(f"{op}: {left} and {right} do not give {result}")
    repeats = [
        sum((dim != batch[i]) << i for i, dim in enumerate(side)) for side in batches
    ]
    # GetQuantizedConvolutionMultipler without a bias: in double
    multiplier, shift = arith.quantize_multiplier(
        arith.f32(in_scale * right_scale) / out_scale
    )
    if left.dtype == "INT16":
        for tensor in (left, right, result):
            symmetric(tensor)
        multiplier, shift = arith.wide_multiplier(multiplier, shift)
    builder.step(
        OP_BATCH_MATMUL,
        op,
        [left, right],
        [result],
        (
            *batch,
            *repeats,
            rows,
            depth,
            columns,
            *map(int, transposed),
            -in_zero,
            -right_zero,
            multiplier,
            shift,
            out_zero,
        ),
        macs=result.elements * depth,
    )
