# SPDX-License-Identifier: MIT
"""QUANTIZE and DEQUANTIZE, which mostly stand at a model's border."""

from ...errors import ModelError
from .. import arith
from ..schema import Op
from .common import Builder, Unsupported, need, quantization
from .table import table_step
from .wide import requantize


def quantize(builder: Builder, op: Op) -> None:
    """QUANTIZE: float at the model's border, or between integers.

    Source: kernels/quantize.cc, Requantize in internal/reference/requantize.h.
    """
    source, result = builder.operand(op, 0), builder.result(op)
    if "INT32" in (source.dtype, result.dtype):
        requantize(builder, op)
        return
    need(result, "INT8", "INT16", "UINT8")
    quantization(result)
    if source.elements != result.elements:
        raise ModelError(f"{op}: {source} does not give {result}")
    if source.dtype == "FLOAT32":
        if source.index not in builder.graph.inputs:
            raise Unsupported(f"{source} is float inside the model")
        if source.index in builder.border or source.index in builder.graph.outputs:
            raise Unsupported(f"{source} is used more than once")
        builder.border[source.index] = result.index
        return
    if "INT16" in (source.dtype, result.dtype):
        requantize(builder, op)
        return
    need(source, "INT8", "UINT8")
    (in_scale, in_zero), (out_scale, out_zero) = (
        quantization(source),
        quantization(result),
    )
    multiplier, shift = arith.quantize_multiplier(in_scale / out_scale)
    low, high = (0, 255) if result.dtype == "UINT8" else (-128, 127)

    def entry(q: int) -> int:
        bits = q & 0xFF if source.dtype == "UINT8" else q
        scaled = arith.requantize(bits - in_zero, multiplier, shift)
        return arith.clamp(scaled + out_zero, low, high)

    table_step(builder, op, arith.table_s8(entry))


def dequantize(builder: Builder, op: Op) -> None:
    """DEQUANTIZE at the model's border: user space does it, the engine has no float.

    Source: kernels/dequantize.cc.
    """
    source, result = builder.operand(op, 0), builder.result(op)
    need(source, "INT8", "INT16", "UINT8")
    need(result, "FLOAT32")
    quantization(source)
    if source.elements != result.elements:
        raise ModelError(f"{op}: {source} does not give {result}")
    if source.data is not None:
        raise Unsupported("its operand is a constant")
    if result.index not in builder.graph.outputs:
        raise Unsupported(f"{result} is float inside the model")
    builder.border[result.index] = source.index


LOWER = {"DEQUANTIZE": dequantize, "QUANTIZE": quantize}

# for docs/operators.md
DTYPES = {
    "DEQUANTIZE": "int8, uint8, int16 to float32 at the model's border",
    "QUANTIZE": "int8, uint8, int16, int32; float32 at the model's border",
}
