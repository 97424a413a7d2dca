# SPDX-License-Identifier: MIT
"""FULLY_CONNECTED."""

from ...errors import ModelError
from ..program import OP_FULLY_CONNECTED
from ..schema import Op, Tensor
from .common import Builder, Unsupported, need
from .weights import Product, lower_weights, weight_zero


def check_rows(op: Op, source: Tensor, weights: Tensor, result: Tensor) -> int:
    """Check the form of a FULLY_CONNECTED; how many rows it multiplies."""
    if op.options.enum(1) != 0:
        raise Unsupported("shuffled weights")
    if len(weights.shape) != 2 or not weights.elements:
        raise ModelError(f"{op}: {weights} found, expected width x depth")
    width, depth = weights.shape
    rows = source.elements // depth
    if rows == 0 or source.elements % depth or result.elements != rows * width:
        raise ModelError(f"{op}: {source} times {weights} does not give {result}")
    return rows


def fully_connected(builder: Builder, op: Op) -> None:
    """Lower FULLY_CONNECTED (integer_ops/fully_connected.h)."""
    source, weights = builder.operand(op, 0), builder.operand(op, 1)
    result = builder.result(op)
    for tensor in (source, weights, result):
        need(tensor, "INT8")
    rows = check_rows(op, source, weights, result)
    product = Product(op, source, weights, result, 2, op.options.enum(0), True)
    builder.step(
        OP_FULLY_CONNECTED,
        op,
        [source],
        [result],
        (*lower_weights(builder, product), rows, -weight_zero(weights)),
        macs=rows * weights.elements,
    )


LOWER = {"FULLY_CONNECTED": fully_connected}
