# SPDX-License-Identifier: MIT
"""Take out steps that change nothing: copies of variables, results nobody reads.

A variable is read and assigned by copies, since what was read must stay as it is
when the variable changes. Mostly nothing uses it any more by then, and the copy's two
tensors can be one.
"""

from .lower import Builder
from .program import OP_COPY, Step


class _Uses:
    """Who reads and who writes each tensor, by the tensor whose memory it is."""

    def __init__(self, builder: Builder) -> None:
        self.reads: dict[int, list[int]] = {}
        self.writes: dict[int, list[int]] = {}
        for at, step in enumerate(builder.steps):
            for number in step.inputs:
                self.reads.setdefault(builder.root(number), []).append(at)
            for number in step.outputs:
                self.writes.setdefault(builder.root(number), []).append(at)

    def writes_in(self, tensor: int, first: int, last: int) -> bool:
        """Is a tensor written by any of these steps?"""
        return any(first <= at <= last for at in self.writes.get(tensor, ()))

    def join(self, old: int, new: int, copy: int) -> None:
        """One tensor has become another; the copy between them is gone."""
        for uses in (self.reads, self.writes):
            uses[new] = [
                at for at in (*uses.get(new, ()), *uses.pop(old, ())) if at != copy
            ]


def _can_read(uses: _Uses, at: int, source: int, result: int) -> bool:
    """Whoever reads the result can read the source: it stays the same till then."""
    if uses.writes[result] != [at]:
        return False
    last = max(uses.reads.get(result, [at]))
    return not uses.writes_in(source, at, last)


def _can_write(uses: _Uses, at: int, source: int, result: int) -> bool:
    """Whoever computes the source can write the result: nobody needs the old one."""
    writes = uses.writes.get(source, [])
    if not writes or max(writes) > at:
        return False
    first = min(writes)
    if any(first <= read <= at for read in uses.reads.get(result, ())):
        return False
    last = max(uses.reads.get(source, [at]))
    others = [w for w in uses.writes[result] if w != at]
    return not any(first <= write <= last for write in others)


def _border(builder: Builder) -> set[int]:
    """Tensors that somebody outside sees."""
    graph = builder.graph
    seen = (*graph.inputs, *graph.outputs, *builder.border, *builder.border.values())
    return {builder.root(number) for number in seen}


def _join_copies(builder: Builder) -> None:
    tensors, border = builder.tensors, _border(builder)
    uses = _Uses(builder)
    gone = set()

    def private(number: int) -> bool:
        tensor = tensors[number]
        return not (tensor.is_variable or tensor.data or number in border)

    # readers first: then nobody needs what an assignment replaces
    for reading in (True, False):
        for at, step in enumerate(builder.steps):
            if step.opcode != OP_COPY or at in gone:
                continue
            source, result = (builder.root(n) for n in (*step.inputs, *step.outputs))
            if source == result:
                continue
            if reading and private(result) and not tensors[source].data:
                old, new = result, source
                if not _can_read(uses, at, source, result):
                    continue
            elif not reading and private(source):
                old, new = source, result
                if not _can_write(uses, at, source, result):
                    continue
            else:
                continue
            builder.alias[old] = new
            uses.join(old, new, at)
            gone.add(at)
    builder.steps = [s for at, s in enumerate(builder.steps) if at not in gone]


def _drop_unread(builder: Builder) -> None:
    """Backwards: a step stays if its result is read later, or from outside."""
    wanted = _border(builder)

    def lasting(number: int) -> bool:
        return builder.tensors[builder.root(number)].is_variable

    kept: list[Step] = []
    for step in reversed(builder.steps):
        results = {builder.root(n) for n in step.outputs}
        if results & wanted or any(map(lasting, (*step.inputs, *step.outputs))):
            kept.append(step)
            wanted.update(builder.root(n) for n in step.inputs)
    builder.steps = kept[::-1]


def tidy(builder: Builder) -> None:
    """Take out what a model does not need: see the module."""
    _join_copies(builder)
    _drop_unread(builder)
