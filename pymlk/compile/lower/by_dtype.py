# SPDX-License-Identifier: MIT
"""Operators whose int8 and int16 forms have nothing in common."""

from collections.abc import Callable

from ..schema import Op
from . import conv, dense, elementwise, spatial, table, wide, wide_conv
from .common import Builder

Lower = Callable[[Builder, Op], None]


def either(narrow: Lower, wide: Lower, position: int = 0) -> Lower:
    """An operator that has forms for int8 and int16, by one of its operands."""

    def lower(builder: Builder, op: Op) -> None:
        by_dtype = wide if builder.operand(op, position).dtype == "INT16" else narrow
        by_dtype(builder, op)

    return lower


LOWER: dict[str, Lower] = {
    "CONV_2D": either(conv.conv_2d, wide_conv.conv_2d),
    "DEPTHWISE_CONV_2D": either(spatial.depthwise_conv_2d, wide_conv.depthwise_conv_2d),
    "EXP": either(elementwise.exp, wide.exp),
    "FULLY_CONNECTED": either(dense.fully_connected, wide_conv.fully_connected),
    "LEAKY_RELU": either(elementwise.leaky_relu, wide.leaky_relu),
    "LOGISTIC": either(table.LOWER["LOGISTIC"], wide.sigmoid(0)),
    "RELU": either(table.LOWER["RELU"], wide.relu(0.0, None)),
    "RELU6": either(table.LOWER["RELU6"], wide.relu(0.0, 6.0)),
    "SOFTMAX": either(table.softmax, wide.softmax),
    "TANH": either(table.LOWER["TANH"], wide.sigmoid(1)),
    "TRANSPOSE_CONV": either(spatial.transpose_conv, wide_conv.transpose_conv, 2),
}

# for docs/operators.md
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
DTYPES = dict.fromkeys(LOWER, "int8, int16") | dict.fromkeys(
    _WEIGHTED, "int8, int16 with int8 weights"
)
EXCEPTIONS = {
    "SOFTMAX": "bit-exact, also where a row's sum of exponentials reaches 512 and 2.14 "
    "gives 127 for every class"
}
