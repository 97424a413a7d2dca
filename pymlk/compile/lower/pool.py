# SPDX-License-Identifier: MIT
"""AVERAGE_POOL_2D and MAX_POOL_2D."""

from collections.abc import Callable

from ..program import OP_POOL, OP_POOL_S16
from ..schema import Op
from .common import LIMITS, Builder, Unsupported, activation_range, need, quantization
from .window import check_image, check_result, window

_AVERAGE, _MAX = 0, 1  # enum mlk_pool_kind
# operator and most pixels of a window
_FORMS = {"INT8": (OP_POOL, 1 << 23), "INT16": (OP_POOL_S16, 0xFFFF)}


def _pool(kind: int) -> Callable[[Builder, Op], None]:
    """kernels/pooling.cc, integer_ops/pooling.h."""

    def lower(builder: Builder, op: Op) -> None:
        source, result = builder.operand(op, 0), builder.result(op)
        need(source, *_FORMS)
        for tensor in (source, result):
            need(tensor, source.dtype)
            check_image(op, tensor)
        # the reference pools the bytes as they are, whatever the operand's scale
        quantization(source)
        scale, zero = quantization(result)
        options = op.options
        way = window(op, source, (options.integer(4), options.integer(3)))
        channels = source.shape[3]
        check_result(op, way, str(source), result, channels)
        opcode, most = _FORMS[source.dtype]
        taps = way.filter_h * way.filter_w
        if opcode == OP_POOL:
            taps = min(way.filter_h, way.in_h) * min(way.filter_w, way.in_w)
        if taps > most:
            raise Unsupported(f"a window of {taps} pixels")
        limits = LIMITS[source.dtype]
        bounds = activation_range(op, options.enum(5), scale, zero, limits)
        builder.step(
            opcode,
            op,
            [source],
            [result],
            (*way, channels, kind, *bounds),
            macs=result.elements * taps,
        )

    return lower


LOWER = {"AVERAGE_POOL_2D": _pool(_AVERAGE), "MAX_POOL_2D": _pool(_MAX)}

# for docs/operators.md
DTYPES = dict.fromkeys(LOWER, "int8, int16")
