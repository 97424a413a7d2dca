# SPDX-License-Identifier: MIT
"""Give every tensor of a lowered model its number and its place in arena or data."""

from bisect import insort
from itertools import accumulate

from ..errors import ModelError, UnsupportedOpError
from .lower import Builder, Unsupported, quantization
from .program import (
    DTYPES,
    MAX_RANK,
    NO_SOURCE,
    OP_COPY,
    Place,
    Ref,
    Step,
    aligned,
    pack,
)
from .schema import MAX_OPS, MAX_TENSORS, Tensor
from .tidy import tidy

# As in mlk_engine.h, where the verifier has the last word.
MAX_BYTES = 1 << 28


def tensor_bytes(tensor: Tensor) -> int:
    """Size of a tensor's memory."""
    return tensor.elements * DTYPES[tensor.dtype][1]


def _scale(tensor: Tensor) -> tuple[float, int]:
    """Quantisation as the program tells it; indices and counts have none."""
    if tensor.dtype in ("INT32", "INT64"):
        return 1.0, 0
    return quantization(tensor)


class Plan:
    """Which tensors a program has, under which numbers, and where they lie.

    Parameters
    ----------
    builder : Builder
        A model whose operators are all lowered.
    keep_inputs : bool
        Inputs have their memory for themselves; else it is used again in a run, once
        they have been read.
    """

    def __init__(self, builder: Builder, keep_inputs: bool = True) -> None:
        tidy(builder)
        self._builder = builder
        self._keep_inputs = keep_inputs
        self._all = builder.tensors
        self.tensors: list[Tensor] = []
        self.host: list[str] = []
        self._number: dict[int, int] = {}
        self.init_steps = [self._numbered(step) for step in builder.init_steps]
        self.steps = [self._numbered(step) for step in builder.steps]

    def _numbered(self, step: Step) -> Step:
        return step._replace(
            inputs=tuple(self.number(t) for t in step.inputs),
            outputs=tuple(self.number(t) for t in step.outputs),
        )

    def number(self, tensor: int) -> int:
        """The program's number of a tensor, given on first use.

        Tensors that share memory have numbers of their own, for their shapes.
        """
        if tensor not in self._number:
            root = self._all[self._builder.root(tensor)]
            view = self._all[tensor]._replace(
                data=root.data, is_variable=root.is_variable
            )
            self._number[tensor] = self._new(view)
        return self._number[tensor]

    def _memory(self, number: int) -> int:
        """The tensor of the graph whose memory a tensor of the program uses."""
        return self._builder.root(self.tensors[number].index)

    def _new(self, tensor: Tensor) -> int:
        if tensor.dtype not in DTYPES or tensor.dtype == "FLOAT32":
            raise UnsupportedOpError(
                f"{tensor} is {tensor.dtype} at the model's border or between its "
                "operators; the engine runs integers",
                (str(tensor),),
            )
        if not tensor.elements:
            raise ModelError(f"{tensor}: has no elements")
        if len(tensor.shape) > MAX_RANK:
            raise Unsupported(f"{tensor} has more than {MAX_RANK} dimensions")
        if tensor_bytes(tensor) > MAX_BYTES:
            raise Unsupported(f"{tensor} has more than {MAX_BYTES} bytes")
        if len(self.tensors) == MAX_TENSORS:
            raise Unsupported(f"more than {MAX_TENSORS} tensors")
        _scale(tensor)
        self.tensors.append(tensor)
        self.host.append(tensor.dtype)
        return len(self.tensors) - 1

    def border(self, index: int, taken: set[int]) -> int:
        """The number of a model input or output, made distinct by a copy."""
        tensor = self._all[index]
        inner = self._builder.border.get(index, index)
        for at in (inner, self._builder.root(inner)):
            if self._all[at].data is not None:
                raise Unsupported(f"{tensor} is a constant at the model's border")
            if self._all[at].is_variable:
                raise Unsupported(f"{tensor} is a variable at the model's border")
        number = self.number(inner)
        if self._memory(number) in taken:
            if len(self.steps) == MAX_OPS:
                raise Unsupported(f"more than {MAX_OPS} operators")
            copy = self._builder.temporary(self._all[inner], tensor.name)
            self.steps.append(
                Step(OP_COPY, NO_SOURCE, (number,), (self.number(copy.index),), (), 0)
            )
            number = self.number(copy.index)
        self.tensors[number] = self.tensors[number]._replace(
            shape=tensor.shape, name=tensor.name
        )
        if tensor.dtype == "FLOAT32":
            self.host[number] = "FLOAT32"
        taken.add(self._memory(number))
        return number

    def _lifetimes(
        self, inputs: list[int], outputs: list[int]
    ) -> dict[int, tuple[int, int]]:
        """First and last step of each memory; some last from run to run."""
        end = len(self.steps)
        lives: dict[int, tuple[int, int]] = {}
        for at, step in enumerate(self.steps):
            for number in (*step.inputs, *step.outputs):
                first, last = lives.get(self._memory(number), (at, at))
                lives[self._memory(number)] = min(first, at), max(last, at)
        for memory in map(self._memory, inputs):
            last = lives.get(memory, (-1, -1))[1]
            lives[memory] = -1, end if self._keep_inputs else last
        for memory in map(self._memory, outputs):
            lives[memory] = lives[memory][0], end
        lasting = {self._memory(n) for step in self.init_steps for n in step.outputs}
        lasting |= {
            self._memory(n) for n, t in enumerate(self.tensors) if t.is_variable
        }
        return lives | dict.fromkeys(lasting, (-1, end))

    def _places(self, inputs: list[int], outputs: list[int]) -> tuple[list[Place], int]:
        """Where each tensor lies, and how large the arena must be."""
        lives = self._lifetimes(inputs, outputs)
        sizes = {
            self._memory(n): aligned(tensor_bytes(t))
            for n, t in enumerate(self.tensors)
            if t.data is None
        }
        offsets, arena_bytes = place(list(sizes.values()), [lives[m] for m in sizes])
        if arena_bytes > MAX_BYTES:
            raise Unsupported(
                f"needs {arena_bytes} bytes of arena, at most {MAX_BYTES}"
            )
        where: dict[int, int | Ref] = dict(zip(sizes, offsets, strict=True))
        places = []
        for number, tensor in enumerate(self.tensors):
            memory = self._memory(number)
            if tensor.data is not None and memory not in where:
                where[memory] = self._builder.data.add(tensor.data)
            scale, zero = _scale(tensor)
            places.append(
                Place(
                    tensor.name,
                    tensor.dtype,
                    self.host[number],
                    tensor.shape,
                    scale,
                    zero,
                    where[memory],
                    tensor_bytes(tensor),
                )
            )
        return places, arena_bytes

    def program(self, crc: int, name: str) -> bytes:
        """Write the program.

        Parameters
        ----------
        crc : int
            CRC-32 of the ``.tflite`` file.
        name : str
            The program's own, by which it is found among others.

        Returns
        -------
        bytes
            The program.

        Raises
        ------
        Unsupported
            If it is larger than the engine takes.
        """
        graph = self._builder.graph
        taken: set[int] = set()
        inputs = [self.border(t, taken) for t in graph.inputs]
        outputs = [self.border(t, taken) for t in graph.outputs]
        places, arena_bytes = self._places(inputs, outputs)
        steps = [*self.init_steps, *self.steps]
        if len(steps) > MAX_OPS:
            raise Unsupported(f"more than {MAX_OPS} operators")
        program = pack(
            places,
            steps,
            inputs,
            outputs,
            self._builder.data,
            arena_bytes,
            crc,
            len(self.init_steps),
            name,
        )
        if len(program) > MAX_BYTES:
            raise Unsupported(
                f"needs {len(program)} bytes of program, at most {MAX_BYTES}"
            )
        return program


# Bounds the time that planning takes: a few seconds.
_MAX_COMPARISONS = 1 << 22
_ROUNDS = 40


def _bound(sizes: list[int], lives: list[tuple[int, int]]) -> int:
    """No plan is smaller: the most that is there at the same time."""
    changes: dict[int, int] = {}
    for size, (first, last) in zip(sizes, lives, strict=True):
        changes[first] = changes.get(first, 0) + size
        changes[last + 1] = changes.get(last + 1, 0) - size
    return max(accumulate(changes[at] for at in sorted(changes)))


def _stack(
    order: list[int], sizes: list[int], lives: list[tuple[int, int]]
) -> list[int]:
    """Offsets of blocks that take, one after the other, the first gap there is."""
    offsets = [0] * len(sizes)
    done: list[int] = []  # in the order of their offsets
    for block in order:
        first, last = lives[block]
        offset = 0
        for other in done:
            start, end = lives[other]
            if start > last or end < first:
                continue
            if offset + sizes[block] <= offsets[other]:
                break
            offset = max(offset, offsets[other] + sizes[other])
        offsets[block] = offset
        insort(done, block, key=offsets.__getitem__)
    return offsets


def place(sizes: list[int], lives: list[tuple[int, int]]) -> tuple[list[int], int]:
    """Offsets for blocks with lifetimes, with a small peak.

    Blocks take the first gap, in an order to begin with; then the block that makes the
    peak goes first, and so on, until no plan can be smaller or time is up.

    Parameters
    ----------
    sizes : list of int
        Bytes of each block, of at least one.
    lives : list of tuple of (int, int)
        First and last step in which each is used.

    Returns
    -------
    tuple of (list of int, int)
        Offset of each block, and the end of the last one.
    """
    blocks = range(len(sizes))
    bound = _bound(sizes, lives)
    best: tuple[list[int], int] = [], 1 << 62
    rounds = min(_ROUNDS, 1 + _MAX_COMPARISONS // (len(sizes) ** 2 + 1))
    orders = (
        sorted(blocks, key=lambda b: -sizes[b]),
        sorted(blocks, key=lambda b: (-lives[b][1], -sizes[b])),
        sorted(blocks, key=lambda b: (lives[b][0], -sizes[b])),
    )
    for order in orders:
        for _ in range(rounds):
            if best[1] == bound:
                return best
            offsets = _stack(order, sizes, lives)
            ends = [o + size for o, size in zip(offsets, sizes, strict=True)]
            peak = max(ends)
            if peak < best[1]:
                best = offsets, peak
            order.remove(ends.index(peak))
            order.insert(0, ends.index(peak))
    return best
