# SPDX-License-Identifier: MIT
"""What lowering any operator needs: the builder, checks of operands, scales."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...errors import ModelError
from .. import arith
from ..program import Data, Ref, Step
from ..schema import ACTIVATIONS, Graph, Op, Tensor

# Bounds the time that compiling takes: about 5 s.
MAX_WEIGHT_BYTES = 1 << 27


# What values of a dtype may be; zero points of int32 are those of int8.
LIMITS = {
    "INT8": (-128, 127),
    "UINT8": (0, 255),
    "INT16": (-(2**15), 2**15 - 1),
}


class Unsupported(Exception):
    """A form of an operator that is not in the engine; the text says why."""


class Builder:
    """What lowering produces: steps, data, and tensors that share memory."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        # the graph's, then those that lowering adds
        self.tensors = list(graph.tensors)
        self.data = Data()
        self.steps: list[Step] = []
        # these run at a reset, not in a run
        self.init_steps: list[Step] = []
        # tensor -> the tensor whose memory it is (a reshape costs nothing)
        self.alias: dict[int, int] = {}
        # float tensor at the model's border -> the int8 tensor behind it
        self.border: dict[int, int] = {}
        # weights read so far; operators may share them, so the file is no bound
        self.weight_bytes = 0
        # bytes of results that were computed here
        self.folded_bytes = 0
        # resource tensor -> its variable's name -> the tensor that keeps its value
        self.handles: dict[int, str] = {}
        self.variables: dict[str, int] = {}

    def root(self, tensor: int) -> int:
        """The tensor whose memory a tensor uses."""
        while tensor in self.alias:
            tensor = self.alias[tensor]
        return tensor

    def operand(self, op: Op, position: int) -> Tensor:
        """An input that must be there."""
        if not self.has(op, position):
            raise ModelError(f"{op}: input {position} is missing")
        return self.tensors[op.inputs[position]]

    def has(self, op: Op, position: int) -> bool:
        """Is an optional input there?"""
        return position < len(op.inputs) and op.inputs[position] >= 0

    def result(self, op: Op, position: int = 0, expected: int = 1) -> Tensor:
        """An output of an operator with so many of them."""
        if len(op.outputs) != expected:
            raise ModelError(f"{op}: {len(op.outputs)} outputs, expected {expected}")
        return self.tensors[op.outputs[position]]

    def temporary(self, like: Tensor, name: str, **changes: Any) -> Tensor:
        """Add a tensor that only the engine sees, like another one but for changes."""
        tensor = like._replace(
            index=len(self.tensors), name=name, data=None, is_variable=False
        )._replace(**changes)
        self.tensors.append(tensor)
        return tensor

    def weights(self, weights: Tensor) -> bytes:
        """Constant weights; those of the whole model are bounded."""
        data = constant(weights)
        self.weight_bytes += weights.elements
        if self.weight_bytes > MAX_WEIGHT_BYTES:
            raise Unsupported(f"more than {MAX_WEIGHT_BYTES} bytes of weights in all")
        return data

    def fold(self, op: Op, data: bytes) -> None:
        """Make an operator's result a constant: it is known now."""
        result = self.result(op)
        self.tensors[result.index] = result._replace(data=data)

    @contextmanager
    def at_reset(self) -> Iterator[None]:
        """Steps that are added meanwhile run at a reset, not in a run."""
        steps, self.steps = self.steps, self.init_steps
        try:
            yield
        finally:
            self.steps = steps

    def step(
        self,
        opcode: int,
        op: Op,
        sources: Sequence[Tensor],
        results: Sequence[Tensor],
        params: tuple[int | Ref, ...],
        macs: int = 0,
    ) -> None:
        """Add a step; constant operands go into the program's data."""
        self.steps.append(
            Step(
                opcode,
                op.code,
                tuple(t.index for t in sources),
                tuple(t.index for t in results),
                params,
                macs,
            )
        )


def quantization(tensor: Tensor) -> tuple[float, int]:
    """Scale and zero point of a tensor that is quantised as a whole."""
    if len(tensor.scales) != 1 or len(tensor.zero_points) > 1:
        raise Unsupported(f"{tensor} has {len(tensor.scales)} scales, not 1")
    scale = tensor.scales[0]
    if not (math.isfinite(scale) and scale > 0):
        raise ModelError(f"{tensor}: scale {scale} found, expected a positive number")
    zero_point = tensor.zero_points[0] if tensor.zero_points else 0
    low, high = LIMITS.get(tensor.dtype, LIMITS["INT8"])
    if not low <= zero_point <= high:
        raise ModelError(
            f"{tensor}: zero point {zero_point} found, expected {low} to {high}"
        )
    return scale, zero_point


def symmetric(tensor: Tensor) -> float:
    """Scale of an int16 or int32 tensor, which must have no zero point."""
    scale, zero = quantization(tensor)
    if zero:
        raise Unsupported(f"{tensor} is {tensor.dtype} with zero point {zero}")
    return scale


def need(tensor: Tensor, *dtypes: str) -> None:
    """Refuse an operand of another dtype."""
    if tensor.dtype not in dtypes:
        raise Unsupported(f"{tensor} is {tensor.dtype}, not {' or '.join(dtypes)}")


def constant(tensor: Tensor) -> bytes:
    """The bytes of an operand that is known now."""
    if tensor.data is None:
        raise Unsupported(f"{tensor} is not constant")
    return tensor.data


def activation_range(
    op: Op,
    activation: int,
    scale: float,
    zero: int,
    limits: tuple[int, int] = (-128, 127),
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
    least = max(limits[0], level(low, limits[0]))
    most = min(limits[1], level(high, limits[1]))
    if least > most:
        raise ModelError(f"{op}: activation {name} leaves no output value")
    return least, most
