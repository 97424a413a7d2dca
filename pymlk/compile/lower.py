# SPDX-License-Identifier: MIT
"""Turn each TFLite operator into engine steps: one function per operator.

A function here checks the form of its operator (dtypes, shapes, options) and
says what is missing through `unsupported`; the tables and multipliers that it
makes are those of TFLite's reference kernels, whose source each one names.
"""

import math
import struct
from collections.abc import Callable

from ..errors import ModelError
from . import arith
from .program import OP_FULLY_CONNECTED, OP_LUT, OP_SOFTMAX, Data, Ref, Step
from .schema import ACTIVATIONS, Graph, Op, Tensor

# Bounds the time that compiling takes: about 5 s.
MAX_WEIGHT_BYTES = 1 << 27


class Unsupported(Exception):
    """A form of an operator that is not in the engine; the text says why."""


class Builder:
    """What lowering produces: steps, data, and tensors that share memory."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.data = Data()
        self.steps: list[Step] = []
        # tensor -> the tensor whose memory it is (a reshape costs nothing)
        self.alias: dict[int, int] = {}
        # float tensor at the model's border -> the int8 tensor behind it
        self.border: dict[int, int] = {}
        # weights read so far; operators may share them, so the file is no bound
        self.weight_bytes = 0

    def root(self, tensor: int) -> int:
        """The tensor whose memory a tensor uses."""
        while tensor in self.alias:
            tensor = self.alias[tensor]
        return tensor

    def operand(self, op: Op, position: int) -> Tensor:
        """An input that must be there."""
        if position >= len(op.inputs) or op.inputs[position] < 0:
            raise ModelError(f"{op}: input {position} is missing")
        return self.graph.tensors[op.inputs[position]]

    def result(self, op: Op) -> Tensor:
        """The only output."""
        if len(op.outputs) != 1:
            raise ModelError(f"{op}: {len(op.outputs)} outputs, expected 1")
        return self.graph.tensors[op.outputs[0]]

    def step(
        self,
        opcode: int,
        op: Op,
        source: Tensor,
        params: tuple[int | Ref, ...],
        macs: int = 0,
    ) -> None:
        """Add a step with one operand and one result."""
        if source.data is not None:
            raise Unsupported("its operand is a constant")
        self.steps.append(
            Step(opcode, op.code, (source.index,), (op.outputs[0],), params, macs)
        )


def quantization(tensor: Tensor) -> tuple[float, int]:
    """Scale and zero point of a tensor that is quantised as a whole."""
    if len(tensor.scales) != 1 or len(tensor.zero_points) > 1:
        raise Unsupported(f"{tensor} has {len(tensor.scales)} scales, not 1")
    scale = tensor.scales[0]
    if not (math.isfinite(scale) and scale > 0):
        raise ModelError(f"{tensor}: scale {scale} found, expected a positive number")
    zero_point = tensor.zero_points[0] if tensor.zero_points else 0
    low, high = (0, 255) if tensor.dtype == "UINT8" else (-128, 127)
    if not low <= zero_point <= high:
        raise ModelError(
            f"{tensor}: zero point {zero_point} found, expected {low} to {high}"
        )
    return scale, zero_point


def need(tensor: Tensor, *dtypes: str) -> None:
    """Refuse an operand of another dtype."""
    if tensor.dtype not in dtypes:
        raise Unsupported(f"{tensor} is {tensor.dtype}, not {' or '.join(dtypes)}")


def activation_range(
    op: Op, activation: int, scale: float, zero: int
) -> tuple[int, int]:
    """Bounds of a fused activation.

    Source: CalculateActivationRangeQuantized in tensorflow/lite/kernels/
    kernel_util.cc.
    """
    bounds: dict[str, tuple[float | None, float | None]] = {
        "NONE": (None, None),
        "RELU": (0.0, None),
        "RELU_N1_TO_1": (-1.0, 1.0),
        "RELU6": (0.0, 6.0),
    }
    name = ACTIVATIONS[activation] if 0 <= activation < 6 else str(activation)
    if name not in bounds:
        raise Unsupported(f"fused activation {name}")

    def level(real: float | None, otherwise: int) -> int:
        if real is None:
            return otherwise
        return zero + arith.round_away(arith.f32(real / scale))

    low, high = bounds[name]
    least, most = max(-128, level(low, -128)), min(127, level(high, 127))
    if least > most:
        raise ModelError(f"{op}: activation {name} leaves no output value")
    return least, most


def _fc_multipliers(
    source: Tensor, weights: Tensor, result: Tensor, width: int
) -> list[tuple[int, int]]:
    """Per-channel in double, per-tensor with the product rounded to float32.

    Source: PopulateConvolutionQuantizationParams and
    GetQuantizedConvolutionMultipler in tensorflow/lite/kernels/kernel_util.cc.
    """
    in_scale, _ = quantization(source)
    out_scale, _ = quantization(result)
    scales = weights.scales
    for scale in scales:
        if not (math.isfinite(scale) and scale > 0):
            raise ModelError(f"{weights}: scale {scale}, expected a positive number")
    if len(scales) == 1:
        real = arith.f32(in_scale * scales[0]) / out_scale
        return [arith.quantize_multiplier(real)] * width
    if len(scales) != width or weights.quantized_dimension != 0:
        raise ModelError(
            f"{weights}: {len(scales)} scales along dimension "
            f"{weights.quantized_dimension}, expected {width} along dimension 0"
        )
    if any(weights.zero_points):
        raise ModelError(f"{weights}: per-channel zero points must be 0")
    return [arith.quantize_multiplier(in_scale * scale / out_scale) for scale in scales]


def _fc_bias(builder: Builder, op: Op, width: int) -> list[int]:
    if len(op.inputs) < 3 or op.inputs[2] < 0:
        return [0] * width
    bias = builder.operand(op, 2)
    need(bias, "INT32")
    if bias.data is None:
        raise Unsupported(f"{bias} is not constant")
    if bias.elements != width:
        raise ModelError(f"{op}: {bias} found, expected {width} biases")
    return list(struct.unpack(f"<{width}i", bias.data))


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

    builder.weight_bytes += weights.elements
    if builder.weight_bytes > MAX_WEIGHT_BYTES:
        raise Unsupported(f"more than {MAX_WEIGHT_BYTES} bytes of weights in all")
    _, in_zero = quantization(source)
    out_scale, out_zero = quantization(result)
    multipliers = _fc_multipliers(source, weights, result, width)
    per_tensor = len(weights.scales) == 1
    weight_zero = weights.zero_points[0] if per_tensor and weights.zero_points else 0
    if not -128 <= weight_zero <= 127:
        raise ModelError(f"{weights}: zero point {weight_zero} is no int8")
    least, most = activation_range(op, op.options.enum(0), out_scale, out_zero)
    bias = _fc_bias(builder, op, width)
    # (w - wz) * (x - xz) = w*x - wz*x - xz * sum(w - wz): the last is constant
    for row in range(width):
        row_sum = sum(struct.unpack_from(f"<{depth}b", weights.data, row * depth))
        bias[row] = arith.wrap32(bias[row] - in_zero * (row_sum - depth * weight_zero))
    data = builder.data
    builder.step(
        OP_FULLY_CONNECTED,
        op,
        source,
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


def _table_step(builder: Builder, op: Op, table: bytes) -> None:
    source = builder.operand(op, 0)
    if builder.result(op).elements != source.elements:
        raise ModelError(f"{op}: {source} does not give {builder.result(op)}")
    builder.step(OP_LUT, op, source, (builder.data.add(table),))


def _function(function: Callable[[float], float]) -> Callable[[Builder, Op], None]:
    def lower(builder: Builder, op: Op) -> None:
        source, result = builder.operand(op, 0), builder.result(op)
        need(source, "INT8")
        need(result, "INT8")
        table = arith.function_table(
            function, *quantization(source), *quantization(result)
        )
        _table_step(builder, op, table)

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

        _table_step(builder, op, arith.table_s8(entry))

    return lower


def quantize(builder: Builder, op: Op) -> None:
    """QUANTIZE: float at the model's border, or between 8-bit types.

    Source: kernels/quantize.cc, Requantize in internal/reference/requantize.h.
    """
    source, result = builder.operand(op, 0), builder.result(op)
    need(result, "INT8", "UINT8")
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

    _table_step(builder, op, arith.table_s8(entry))


def dequantize(builder: Builder, op: Op) -> None:
    """DEQUANTIZE at the model's border: user space does it, the engine has no float.

    Source: kernels/dequantize.cc.
    """
    source, result = builder.operand(op, 0), builder.result(op)
    need(source, "INT8", "UINT8")
    need(result, "FLOAT32")
    quantization(source)
    if source.elements != result.elements:
        raise ModelError(f"{op}: {source} does not give {result}")
    if source.data is not None:
        raise Unsupported("its operand is a constant")
    if result.index not in builder.graph.outputs:
        raise Unsupported(f"{result} is float inside the model")
    builder.border[result.index] = source.index


def reshape(builder: Builder, op: Op) -> None:
    """RESHAPE: the same bytes under another shape."""
    source, result = builder.operand(op, 0), builder.result(op)
    need(source, "INT8", "UINT8")
    need(result, source.dtype)
    if source.elements != result.elements:
        raise ModelError(f"{op}: {source} does not give {result}")
    if source.data is not None:
        raise Unsupported("its operand is a constant")
    builder.alias[result.index] = source.index


def softmax(builder: Builder, op: Op) -> None:
    """SOFTMAX: kernels/activations.cc, internal/reference/softmax.h."""
    source, result = builder.operand(op, 0), builder.result(op)
    need(source, "INT8")
    need(result, "INT8")
    in_scale, _ = quantization(source)
    out_scale, out_zero = quantization(result)
    if out_scale != 1 / 256 or out_zero != -128:
        raise ModelError(
            f"{op}: {result} has scale {out_scale:g} and zero point {out_zero}, "
            "expected 1/256 and -128"
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
        source,
        (source.elements // depth, depth, builder.data.add_s32(table), entries),
    )


LOWER: dict[str, Callable[[Builder, Op], None]] = {
    "DEQUANTIZE": dequantize,
    "FULLY_CONNECTED": fully_connected,
    "LOGISTIC": _function(arith.logistic),
    "QUANTIZE": quantize,
    "RELU": _relu(0.0, None),
    "RELU6": _relu(0.0, 6.0),
    "RELU_N1_TO_1": _relu(-1.0, 1.0),
    "RESHAPE": reshape,
    "SOFTMAX": softmax,
    "TANH": _function(math.tanh),
}
