# SPDX-License-Identifier: MIT
"""Operators whose int8 and int16 forms have nothing in common."""

from collections.abc import Callable

from ..schema import Op
from . import (
    conv,
    dense,
    elementwise,
    matmul,
    spatial,
    table,
    wide,
    wide_conv,
)
from .common import Builder

Lower = Callable[[Builder, Op], None]


def either(narrow: Lower, wide: Lower, position: int = 0) -> Lower:
    """An operator that has forms for int8 and int16, by one of its operands."""

    def lower(builder: Builder, op: Op) -> None:
        by_dtype = wide if builder.operand(op, position).dtype == "INT16" else narrow
        by_dtype(builder, op)

    return lower


def batch_matmul(builder: Builder, op: Op) -> None:
    """BATCH_MATMUL, which has a third form: int16 times constant int8."""
    dtypes = [builder.operand(op, position).dtype for position in (0, 1)]
    mixed = dtypes == ["INT16", "INT8"]
    (wide_conv if mixed else matmul).batch_matmul(builder, op)


LOWER: dict[str, Lower] = {
    "ABS": either(elementwise.absolute, wide.absolute),
    "BATCH_MATMUL": batch_matmul,
    "CONV_2D": either(conv.conv_2d, wide_conv.conv_2d),
    "DEPTHWISE_CONV_2D": either(conv.depthwise_conv_2d, wide_conv.depthwise_conv_2d),
    "EXP": either(elementwise.exp, wide.exp),
    "FULLY_CONNECTED": either(dense.fully_connected, wide_conv.fully_connected),
    "LEAKY_RELU": either(elementwise.leaky_relu, wide.leaky_relu),
    "LOGISTIC": either(table.LOWER["LOGISTIC"], wide.sigmoid(0)),
    "RELU": either(table.LOWER["RELU"], wide.relu(0.0, None)),
    "RELU6": either(table.LOWER["RELU6"], wide.relu(0.0, 6.0)),
    "RSQRT": either(elementwise.rsqrt, wide.rsqrt),
    "SOFTMAX": either(table.softmax, wide.softmax),
    "TANH": either(table.LOWER["TANH"], wide.sigmoid(1)),
    "TRANSPOSE_CONV": either(spatial.transpose_conv, wide_conv.transpose_conv, 2),
}

# for docs/operators.md
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
DTYPES = {
    **dict.fromkeys(LOWER, "int8, int16"),
    **dict.fromkeys(_WEIGHTED, "int8, int16 with int8 weights"),
    "BATCH_MATMUL": "int8, int16, int16 with constant int8",
}
EXCEPTIONS = {
    "BATCH_MATMUL": "bit-exact, but right where 2.14 reads garbage: adj_x with a right "
    "side that is repeated; int16 with int8, which no runtime computes, is "
    "FULLY_CONNECTED with an int64 bias of zeros",
    "RSQRT": "bit-exact; the most for a negative operand, where 2.14 fails; int16, "
    "which 2.14 lacks, equal to tflite-micro",
    "SOFTMAX": "bit-exact, also where a row's sum of exponentials reaches 512 and 2.14 "
    "gives 127 for every class",
}
