# SPDX-License-Identifier: MIT
"""Resource variables: what a streaming model remembers from one run to the next.

A variable is a tensor that keeps its place in the arena; reading and assigning are
copies, most of which the plan takes out again.
"""

from collections.abc import Callable

from ...errors import ModelError
from ..program import OP_COPY
from ..schema import Op, Tensor
from ._moves import fill_step
from .common import Builder, Unsupported, need
from .move import INTEGERS


def _named(op: Op) -> str:
    """Container and name together tell variables apart: kernels/var_handle.cc."""
    return f"{op.options.text(0)}/{op.options.text(1)}"


def var_handle(builder: Builder, op: Op) -> None:
    """VAR_HANDLE: kernels/var_handle.cc."""
    builder.handles[builder.result(op).index] = _named(op)


def _name(builder: Builder, op: Op) -> str:
    handle = builder.operand(op, 0)
    if handle.index not in builder.handles:
        raise Unsupported(f"{handle} is no variable of this model")
    return builder.handles[handle.index]


def _variable(builder: Builder, op: Op, name: str, value: Tensor) -> Tensor:
    """The tensor of a variable; the first value decides what it is like."""
    need(value, *INTEGERS)
    if name not in builder.variables:
        tensor = builder.temporary(value, name.split("/", 1)[1], is_variable=True)
        builder.variables[name] = tensor.index
    tensor = builder.tensors[builder.variables[name]]
    if (tensor.dtype, tensor.shape) != (value.dtype, value.shape):
        raise Unsupported(f"{value} changes the form of variable {tensor}")
    return tensor


def read_variable(builder: Builder, op: Op) -> None:
    """READ_VARIABLE: kernels/read_variable.cc."""
    result = builder.result(op)
    name = _name(builder, op)
    if name not in builder.variables:
        raise Unsupported("a variable without a first value")
    variable = _variable(builder, op, name, result)
    builder.step(OP_COPY, op, [variable], [result], ())


def assign_variable(builder: Builder, op: Op) -> None:
    """ASSIGN_VARIABLE: kernels/assign_variable.cc."""
    value = builder.operand(op, 1)
    variable = _variable(builder, op, _name(builder, op), value)
    builder.step(OP_COPY, op, [value], [variable], ())


def call_once(builder: Builder, op: Op) -> None:
    """CALL_ONCE: kernels/call_once.cc; its subgraph gives variables first values."""
    number = op.options.integer(0)
    if not 0 < number <= len(builder.graph.others):
        raise ModelError(f"{op}: names subgraph {number}")
    touched = {t for step in builder.steps for t in (*step.inputs, *step.outputs)}
    if touched & set(builder.variables.values()):
        raise Unsupported("first values of variables that were used before")
    first = builder.graph.others[number - 1]
    handles: dict[int, str] = {}
    for inner in first.ops:
        if inner.name == "VAR_HANDLE" and len(inner.outputs) == 1:
            handles[inner.outputs[0]] = _named(inner)
        elif inner.name == "ASSIGN_VARIABLE" and len(inner.inputs) == 2:
            _first_value(builder, op, first.tensors, inner, handles)
        else:
            raise Unsupported(f"{inner} in the subgraph that it calls")


def _first_value(
    builder: Builder,
    op: Op,
    tensors: tuple[Tensor, ...],
    inner: Op,
    handles: dict[int, str],
) -> None:
    handle, source = inner.inputs
    if handle not in handles:
        raise Unsupported(f"{inner}: no variable of this model")
    if source < 0 or tensors[source].data is None:
        raise Unsupported(f"{inner}: the first value is not constant")
    data = tensors[source].data or b""
    variable = _variable(builder, op, handles[handle], tensors[source])
    # A reset makes all zero before these steps run, and large values are mostly one.
    with builder.at_reset():
        if len(set(data)) == 1:
            element = data[:1] * (len(data) // variable.elements)
            fill_step(builder, op, variable, element)
        else:
            value = builder.temporary(variable, f"first {variable.name}", data=data)
            builder.step(OP_COPY, op, [value], [variable], ())


LOWER: dict[str, Callable[[Builder, Op], None]] = {
    "ASSIGN_VARIABLE": assign_variable,
    "CALL_ONCE": call_once,
    "READ_VARIABLE": read_variable,
    "VAR_HANDLE": var_handle,
}

# for docs/operators.md
DTYPES = dict.fromkeys(LOWER, "int8, uint8, int16, int32, int64")
