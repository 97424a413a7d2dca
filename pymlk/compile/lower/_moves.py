# SPDX-License-Identifier: MIT
"""Data movement as a few records: run at once on constants, else made into steps."""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..program import DTYPES, MAX_RANK, OP_FILL, OP_MOVE, OP_TAKE
from ..schema import Op, Tensor
from .common import Builder, Unsupported

# Bounds what is computed when a program is made: about 2 s.
MAX_FOLDED_BYTES = 1 << 22


class Move(NamedTuple):
    """A strided copy; starts and strides count elements."""

    source: Tensor
    result: Tensor
    dims: tuple[int, ...]
    in_strides: tuple[int, ...]
    out_strides: tuple[int, ...]
    in_start: int = 0
    out_start: int = 0


class Fill(NamedTuple):
    """One element all over a tensor."""

    result: Tensor
    element: bytes


class Take(NamedTuple):
    """Slices along one dimension by a list: out[o][i] = in[o][indices[i]]."""

    source: Tensor
    result: Tensor
    outer: int
    size: int
    indices: tuple[int, ...]
    inner: int


Record = Move | Fill | Take


def count_folded(builder: Builder, size: int) -> None:
    """Bound what is computed for a whole model, before memory is taken for it."""
    builder.folded_bytes += size
    if builder.folded_bytes > MAX_FOLDED_BYTES:
        raise Unsupported(f"more than {MAX_FOLDED_BYTES} bytes of constants")


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Elements from one to the next along each dimension of a dense tensor."""
    result = []
    step = 1
    for dim in reversed(shape):
        result.append(step)
        step *= dim
    return tuple(reversed(result))


def item_bytes(tensor: Tensor) -> int:
    """Bytes of an element."""
    return DTYPES[tensor.dtype][1]


def emit(builder: Builder, op: Op, records: Sequence[Record]) -> None:
    """Add the steps of an operator, or, with constant operands, compute its results."""
    made = {record.result.index for record in records}
    given = {
        r.source.index
        for r in records
        if not isinstance(r, Fill) and r.source.index not in made
    }
    if all(builder.tensors[i].data is not None for i in given):
        _fold(builder, records)
        return
    for record in records:
        if isinstance(record, Move):
            _move_step(builder, op, record)
        elif isinstance(record, Fill):
            fill_step(builder, op, record.result, record.element)
        else:
            _take_step(builder, op, record)


def fill_step(builder: Builder, op: Op, result: Tensor, element: bytes) -> None:
    """Add a step that sets all of a tensor."""
    count = result.elements
    if len(set(element)) == 1:
        # memset does that
        count, element = count * len(element), element[:1]
    low, high = struct.unpack("<II", element.ljust(8, b"\0"))
    builder.step(OP_FILL, op, [], [result], (len(element), 0, count, low, high))


def _take_step(builder: Builder, op: Op, take: Take) -> None:
    table = builder.data.add(struct.pack(f"<{len(take.indices)}I", *take.indices))
    builder.step(
        OP_TAKE,
        op,
        [take.source],
        [take.result],
        (
            take.outer,
            take.size,
            len(take.indices),
            take.inner * item_bytes(take.source),
            table,
        ),
    )


Walk = list[tuple[int, int, int]]  # elements, stride in, stride out: outermost first


def _merged(move: Move) -> Walk:
    """Leave out dimensions of one element; join those that are one run."""
    walk: Walk = []
    for dim, step_in, step_out in zip(
        move.dims, move.in_strides, move.out_strides, strict=True
    ):
        if dim == 1:
            continue
        if walk:
            outer, wide_in, wide_out = walk[-1]
            if (wide_in, wide_out) == (step_in * dim, step_out * dim):
                walk[-1] = outer * dim, step_in, step_out
                continue
        walk.append((dim, step_in, step_out))
    return walk


def _move_step(builder: Builder, op: Op, move: Move) -> None:
    """Add a strided copy, with as few and as long inner runs as can be."""
    walk = _merged(move)
    item = item_bytes(move.source)
    starts = move.in_start, move.out_start
    if len(walk) > 1 and walk[-1][1:] == (1, 1):
        # a short run inside is one larger item
        run = walk[-1][0]
        others = [s for w in walk[:-1] for s in w[1:]] + list(starts)
        sizes = (move.source.elements, move.result.elements)
        if item * run in (2, 4, 8) and not any(s % run for s in (*others, *sizes)):
            item *= run
            walk = [(n, a // run, b // run) for n, a, b in walk[:-1]]
            starts = starts[0] // run, starts[1] // run
    if len(walk) > MAX_RANK:
        raise Unsupported(f"moves elements along more than {MAX_RANK} dimensions")
    walk = [(1, 0, 0)] * (MAX_RANK - len(walk)) + walk
    dims, ins, outs = zip(*walk, strict=True)
    params = (*dims, *ins, *outs, *starts, item)
    builder.step(OP_MOVE, op, [move.source], [move.result], params)


def _fold(builder: Builder, records: Sequence[Record]) -> None:
    """Run records on constants: their results are known now."""
    memory: dict[int, bytearray] = {}
    for record in records:
        result = record.result
        size = result.elements * item_bytes(result)
        if result.index not in memory:
            count_folded(builder, size)
            memory[result.index] = bytearray(size)
        out = memory[result.index]
        if isinstance(record, Fill):
            out[:] = record.element * result.elements
            continue
        data = memory.get(record.source.index)
        _run(record, data or builder.tensors[record.source.index].data or b"", out)
    for index, data in memory.items():
        builder.tensors[index] = builder.tensors[index]._replace(data=bytes(data))


def _places(walk: Walk, start: int, to: int) -> Iterator[tuple[int, int]]:
    """Where each run begins on either side."""
    if not walk:
        yield start, to
        return
    dim, step_in, step_out = walk[0]
    for i in range(dim):
        yield from _places(walk[1:], start + i * step_in, to + i * step_out)


def _run(record: Move | Take, data: bytes | bytearray, out: bytearray) -> None:
    item = item_bytes(record.source)
    if isinstance(record, Take):
        size = record.inner * item
        at = 0
        for outer in range(record.outer):
            for index in record.indices:
                start = (outer * record.size + index) * size
                out[at : at + size] = data[start : start + size]
                at += size
        return
    run = item
    walk = _merged(record)
    if walk and walk[-1][1:] == (1, 1):
        run = walk.pop()[0] * item
    for start, to in _places(walk, record.in_start, record.out_start):
        out[to * item : to * item + run] = data[start * item : start * item + run]
