# SPDX-License-Identifier: MIT
"""Operators that keep a state of their own: SVDF, UNIDIRECTIONAL_SEQUENCE_LSTM.

Their states are variable tensors of the model: operands that the operator changes.
"""

import math
from collections.abc import Callable

from ...errors import ModelError
from .. import arith
from ..program import OP_LSTM, OP_SVDF, Ref
from ..schema import Op, Tensor
from ._moves import Move, emit, fill_step
from .common import Builder, Unsupported, need, quantization, symmetric
from .weights import biases, signed_sum, weight_zero


def _state(builder: Builder, op: Op, position: int) -> Tensor:
    """A state; a reset gives it its zero point.

    Source: ResetVariableTensor in tensorflow/lite/core/subgraph.cc and ResetTensors in
    tensorflow/lite/micro/micro_interpreter_graph.cc.
    """
    state = builder.operand(op, position)
    if not state.is_variable or state.data is not None:
        raise ModelError(f"{op}: {state} is no variable")
    touched = {t for step in builder.steps for t in (*step.inputs, *step.outputs)}
    if state.index in touched:
        raise Unsupported(f"{state} is the state of two operators")
    _, zero = quantization(state)
    if zero and state.dtype == "INT8":
        with builder.at_reset():
            fill_step(builder, op, state, bytes([zero & 0xFF]))
    return state


def _matrix(builder: Builder, op: Op, position: int, shape: tuple[int, int]) -> Tensor:
    """Constant int8 weights without a zero point."""
    weights = builder.operand(op, position)
    need(weights, "INT8")
    builder.weights(weights)
    if weights.shape != shape or not weights.elements:
        raise ModelError(f"{op}: {weights} found, expected {shape[0]}x{shape[1]}")
    if weight_zero(weights):
        raise Unsupported(f"{weights} has a zero point")
    return weights


def _row_sums(weights: Tensor) -> list[int]:
    data, depth = weights.data or b"", weights.shape[1]
    return [signed_sum(data[i : i + depth]) for i in range(0, len(data), depth)]


def _less_zero(bias: list[int], weights: Tensor, zero: int) -> list[int]:
    """Biases that hold what the zero point of the other side adds."""
    sums = _row_sums(weights)
    return [arith.wrap32(b - zero * s) for b, s in zip(bias, sums, strict=True)]


def svdf(builder: Builder, op: Op) -> None:
    """SVDF, with a state of int16 or int8.

    Source: kernels/svdf.cc and internal/reference/svdf.h; for int8, which these lack,
    micro/kernels/svdf_common.cc.
    """
    source, feature = builder.operand(op, 0), builder.operand(op, 1)
    time, result = builder.operand(op, 2), builder.result(op)
    need(source, "INT8")
    need(result, "INT8")
    need(time, "INT16", "INT8")
    rank = op.options.integer(0)
    if len(source.shape) != 2 or len(feature.shape) != 2 or len(time.shape) != 2:
        raise ModelError(f"{op}: {source}, {feature} and {time}, expected matrices")
    (batches, inputs), (filters, memory) = source.shape, time.shape
    if rank < 1 or filters % rank or not (time.elements and source.elements):
        raise ModelError(f"{op}: {time} cannot be of rank {rank}")
    units = filters // rank
    _matrix(builder, op, 1, (filters, inputs))
    taps = builder.weights(time)
    state = _state(builder, op, 4)
    need(state, time.dtype)
    if state.elements != batches * filters * memory:
        raise ModelError(f"{op}: {state} does not remember {time}")
    if result.shape != (batches, units):
        raise ModelError(f"{op}: {source} does not give {result}")

    in_scale, in_zero = quantization(source)
    out_scale, out_zero = quantization(result)
    state_scale, state_zero = quantization(state)
    bias = biases(builder, op, 3, units)
    if time.dtype == "INT16":
        symmetric(time)
        symmetric(state)
    else:
        if weight_zero(time):
            raise Unsupported(f"{time} has a zero point")
        sums = _row_sums(time._replace(shape=(units, rank * memory)))
        bias = [
            arith.wrap32(b - state_zero * s) for b, s in zip(bias, sums, strict=True)
        ]

    def scaling(first: float, second: float, last: float) -> tuple[int, int]:
        return arith.quantize_multiplier(arith.f32(arith.f32(first * second) / last))

    data = builder.data
    feature_bias = _less_zero([0] * filters, feature, in_zero)
    words = (
        batches,
        inputs,
        units,
        rank,
        memory,
        data.add(feature.data or b""),
        data.add_s32(feature_bias),
        data.add(taps),
        data.add_s32(bias),
        *scaling(in_scale, quantization(feature)[0], state_scale),
        state_zero,
        *scaling(state_scale, quantization(time)[0], out_scale),
        out_zero,
    )
    macs = batches * filters * (inputs + memory)
    builder.step(OP_SVDF, op, [source], [result, state], words, macs)


# Positions among the operands (kernels/lstm_shared.h) of what belongs to a gate, in
# the engine's order of gates; an LSTM may have no input gate.
_GATES = {"forget": (2, 6, 13), "cell": (3, 7, 14), "output": (4, 8, 15)}
_INPUT_GATE = {"input": (1, 5, 12)}
_LSTM_STATE, _LSTM_CELL_STATE = 18, 19
# peepholes, projection and layer normalisation
_LSTM_EXTRAS = (9, 10, 11, 16, 17, 20, 21, 22, 23)
_GATE_SCALE = 2.0**-12


def _lstm_sizes(
    builder: Builder, op: Op, source: Tensor, result: Tensor
) -> tuple[int, int, int, int]:
    """Batches, steps, inputs, cells."""
    if len(source.shape) != 3:
        raise ModelError(f"{op}: {source} found, expected rank 3")
    batches, steps, inputs = source.shape
    if op.options.flag(3):
        batches, steps = steps, batches
    weights = builder.operand(op, _GATES["output"][0])
    cells = weights.shape[0] if weights.shape else 0
    if not (batches * steps * inputs and cells):
        raise ModelError(f"{op}: {source} with {weights}")
    if result.shape != (*source.shape[:-1], cells):
        raise ModelError(f"{op}: {source} does not give {result}")
    return batches, steps, inputs, cells


def _lstm_output(builder: Builder, op: Op, state: Tensor) -> tuple[int, int, int]:
    """Multiplier, shift and zero point of what a step gives."""
    if len(op.intermediates) != 5 or min(op.intermediates) < 0:
        raise ModelError(f"{op}: {len(op.intermediates)} intermediates, expected 5")
    scale, zero = quantization(builder.tensors[op.intermediates[4]])
    multiplier = arith.quantize_multiplier(arith.f32(2.0**-30 / scale))
    if zero != quantization(state)[1]:
        raise Unsupported(f"{state} has another zero point than what goes there")
    return *multiplier, zero


def _lstm_cell(op: Op, cell: Tensor) -> tuple[int, int]:
    """Integer bits of the cells' state, and its bound."""
    scale = symmetric(cell)
    power = round(math.log2(scale))
    if abs(math.log2(scale) - power) > 1e-3 or not -15 <= power <= -9:
        raise Unsupported(f"{cell} has scale {scale:g}, not 2^-15 to 2^-9")
    bound = op.options.real(1)
    clip = 0
    if bound > 0:
        clip = int(min(arith.f32(bound / scale), 32767.0))
    return 15 + power, clip


def lstm(builder: Builder, op: Op) -> None:
    """UNIDIRECTIONAL_SEQUENCE_LSTM of int8 with a cell state of int16.

    Source: PopulateQuantizedLstmParams8x8_16 in kernels/
    unidirectional_sequence_lstm.cc, LstmStepInteger8x8_16 in kernels/lstm_eval.cc.
    """
    source, result = builder.operand(op, 0), builder.result(op)
    need(source, "INT8")
    need(result, "INT8")
    if len(op.inputs) not in (20, 24):
        raise ModelError(f"{op}: {len(op.inputs)} inputs, expected 20 or 24")
    for position in _LSTM_EXTRAS:
        if builder.has(op, position):
            raise Unsupported("peepholes, a projection or layer normalisation")
    batches, steps, inputs, cells = _lstm_sizes(builder, op, source, result)
    state = _state(builder, op, _LSTM_STATE)
    cell_state = _state(builder, op, _LSTM_CELL_STATE)
    need(state, "INT8")
    need(cell_state, "INT16")
    if state.elements != batches * cells or cell_state.elements != batches * cells:
        raise ModelError(f"{op}: {state} and {cell_state} for {result}")

    # for the operand, then for the state
    sides = (quantization(source), quantization(state))
    depths = (inputs, cells)
    weights, bias = [b"", b""], [[0] * 0, [0] * 0]
    scaling = []
    gates = _GATES | (_INPUT_GATE if builder.has(op, _INPUT_GATE["input"][0]) else {})
    for *positions, at_bias in gates.values():
        both = biases(builder, op, at_bias, cells), [0] * cells
        for side in (0, 1):
            matrix = _matrix(builder, op, positions[side], (cells, depths[side]))
            scale, zero = sides[side]
            weights[side] += matrix.data or b""
            bias[side] += _less_zero(both[side], matrix, zero)
            real = arith.f32(quantization(matrix)[0] * scale) / _GATE_SCALE
            scaling.append(arith.quantize_multiplier(real))
    data = builder.data
    words: tuple[int | Ref, ...] = (
        batches,
        steps,
        inputs,
        cells,
        int(op.options.flag(3)),
        len(gates),
        data.add(weights[0]),
        data.add(weights[1]),
        data.add_s32(bias[0]),
        data.add_s32(bias[1]),
        data.add_s32([multiplier for multiplier, _ in scaling]),
        data.add_s32([shift for _, shift in scaling]),
        *_lstm_cell(op, cell_state),
        *_lstm_output(builder, op, state),
    )
    macs = batches * steps * cells * len(gates) * (inputs + cells)
    builder.step(OP_LSTM, op, [source, state], [result, cell_state], words, macs)
    _keep_last(builder, op, result, state, steps)


def _keep_last(
    builder: Builder, op: Op, result: Tensor, state: Tensor, steps: int
) -> None:
    """The output of the last step is the state of the next run."""
    cells = result.shape[-1]
    batches = state.elements // cells
    last, stride = (steps - 1) * cells, steps * cells
    if op.options.flag(3):
        last, stride = last * batches, cells
    move = Move(result, state, (batches, cells), (stride, 1), (cells, 1), last)
    emit(builder, op, [move])


LOWER: dict[str, Callable[[Builder, Op], None]] = {
    "SVDF": svdf,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": lstm,
}

# Operands that are variables, by their positions.
STATES = {
    "SVDF": (4,),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (_LSTM_STATE, _LSTM_CELL_STATE),
}

# for docs/operators.md
DTYPES = {
    "SVDF": "int8, state int16 or int8",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "int8, cell state int16",
}
EXCEPTIONS = {
    "SVDF": "bit-exact; with a state of int8, which 2.14 lacks, equal to tflite-micro, "
    "but saturated, as its sources have it, where a state with a zero point leaves its "
    "range and the release of October 2026 wraps"
}
