# SPDX-License-Identifier: MIT
"""Compile a quantised ``.tflite`` model into a program for the engine.

``schema`` reads the file, ``lower`` turns its operators into engine steps,
``arith`` has TFLite's arithmetic for that, ``program`` writes the result. This
package needs ``flatbuffers`` and nothing else; a device that gets its programs
ready-made needs none of it.
"""

import zlib
from bisect import insort

from ..errors import ModelError, UnsupportedOpError
from .lower import LOWER, Builder, Unsupported, quantization
from .program import MAX_RANK, OP_COPY, Place, Step, aligned, pack, source_crc
from .schema import MAX_OPS, MAX_TENSORS, Graph, Op, Tensor, read_graph

__all__ = [
    "compile_graph",
    "compile_model",
    "describe_op",
    "read_graph",
    "read_quantised",
    "source_crc",
    "unsupported",
]


def _check_order(graph: Graph) -> None:
    """Every tensor is computed once, before it is read: no cycles, no surprises."""
    if len(set(graph.inputs)) != len(graph.inputs):
        raise ModelError(f"a tensor is named twice among the inputs {graph.inputs}")
    ready = {t.index for t in graph.tensors if t.data is not None or not t.elements}
    ready.update(graph.inputs)
    ready.update(t.index for t in graph.tensors if t.is_variable)
    for op in graph.ops:
        for number in op.inputs:
            if number >= 0 and number not in ready:
                raise ModelError(
                    f"{op}: reads {graph.tensors[number]}, which nothing has computed"
                )
        for number in op.outputs:
            if number in ready:
                raise ModelError(
                    f"{op}: writes {graph.tensors[number]}, which is an input, a "
                    "constant or computed already"
                )
            ready.add(number)
    for number in graph.outputs:
        if number not in ready:
            raise ModelError(f"output {graph.tensors[number]} is never computed")


def _lower_all(graph: Graph) -> tuple[Builder, tuple[str, ...]]:
    """Lower every operator; names of those that the engine lacks come second."""
    _check_order(graph)
    builder = Builder(graph)
    missing = []
    for op in graph.ops:
        lower = LOWER.get(op.name)
        try:
            if lower is None:
                raise Unsupported("no such operator in the engine")
            for number in op.inputs:
                if number >= 0 and graph.tensors[number].is_variable:
                    raise Unsupported(f"{graph.tensors[number]} is a variable")
            lower(builder, op)
        except Unsupported as reason:
            missing.append(f"{op} ({reason})")
        except ModelError:
            raise
        except (OverflowError, ZeroDivisionError, ValueError) as error:
            raise ModelError(f"{op}: quantisation out of range: {error}") from error
    return builder, tuple(missing)


def _check_quantised(graph: Graph) -> None:
    """Refuse a model without a single quantised activation."""
    used = {i for op in graph.ops for i in (*op.inputs, *op.outputs) if i >= 0}
    used |= {*graph.inputs, *graph.outputs}
    quantised = {"INT4", "INT8", "INT16", "UINT8"}
    if any(t.scales for t in graph.tensors if t.index in used and t.dtype in quantised):
        return
    floats = [
        t
        for t in graph.tensors
        if t.index in used and t.dtype.startswith("FLOAT") and t.data is None
    ]
    if not floats:
        # scales may be kept in a form that is newer than the one read here
        if any(graph.tensors[i].dtype in quantised for i in used):
            return
        raise ModelError("no quantised tensor found, expected an int8 model")
    raise ModelError(
        f"float-only model: {floats[0]} and no quantised tensor found, expected int8; "
        "convert it with post-training quantisation and representative data"
    )


# As in mlk_engine.h, where the verifier has the last word.
MAX_BYTES = 1 << 28


class _Plan:
    """Which tensors live in the arena, where, and under which number."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._graph = builder.graph
        self.steps = list(builder.steps)
        self.tensors: list[Tensor] = []
        self.host: list[str] = []
        self._number: dict[int, int] = {}

    def number(self, tensor: int) -> int:
        """The program's number of a tensor, given on first use."""
        tensor = self._builder.root(tensor)
        if tensor not in self._number:
            self._number[tensor] = self._new(self._graph.tensors[tensor])
        return self._number[tensor]

    def _new(self, tensor: Tensor) -> int:
        if tensor.dtype not in ("INT8", "UINT8"):
            raise UnsupportedOpError(
                f"{tensor} is {tensor.dtype} at the model's border or between its "
                "operators; the engine runs INT8",
                (str(tensor),),
            )
        if not tensor.elements:
            raise ModelError(f"{tensor}: has no elements")
        if len(tensor.shape) > MAX_RANK:
            raise Unsupported(f"{tensor} has more than {MAX_RANK} dimensions")
        if tensor.elements > MAX_BYTES:
            raise Unsupported(f"{tensor} has more than {MAX_BYTES} bytes")
        if len(self.tensors) == MAX_TENSORS:
            raise Unsupported(f"more than {MAX_TENSORS} tensors")
        quantization(tensor)
        self.tensors.append(tensor)
        self.host.append(tensor.dtype)
        return len(self.tensors) - 1

    def border(self, index: int, taken: set[int]) -> int:
        """The number of a model input or output, made distinct by a copy."""
        tensor = self._graph.tensors[index]
        inner = self._builder.border.get(index, index)
        for at in (inner, self._builder.root(inner)):
            if self._graph.tensors[at].data is not None:
                raise Unsupported(f"{tensor} is a constant at the model's border")
            if self._graph.tensors[at].is_variable:
                raise Unsupported(f"{tensor} is a variable at the model's border")
        number = self.number(inner)
        shaped = self._graph.tensors[inner]._replace(
            shape=tensor.shape, name=tensor.name
        )
        if number in taken:
            if len(self.steps) == MAX_OPS:
                raise Unsupported(f"more than {MAX_OPS} operators")
            copy = self._new(shaped)
            self.steps.append(Step(OP_COPY, 0, (number,), (copy,), (), 0))
            number = copy
        else:
            self.tensors[number] = shaped
        if tensor.dtype == "FLOAT32":
            self.host[number] = "FLOAT32"
        taken.add(number)
        return number


def _place(sizes: list[int], lives: list[tuple[int, int]]) -> tuple[list[int], int]:
    """Offsets for blocks with lifetimes, largest first into the first gap."""
    offsets = [0] * len(sizes)
    done: list[int] = []  # in the order of their offsets
    peak = 0
    for block in sorted(range(len(sizes)), key=lambda b: -sizes[b]):
        first, last = lives[block]
        offset = 0
        for other in done:
            start, end = lives[other]
            if start > last or end < first:
                continue
            if offset + aligned(sizes[block]) <= offsets[other]:
                break
            offset = max(offset, offsets[other] + aligned(sizes[other]))
        offsets[block] = offset
        insort(done, block, key=offsets.__getitem__)
        peak = max(peak, offset + aligned(sizes[block]))
    return offsets, peak


def _lifetimes(plan: _Plan, border: set[int]) -> list[tuple[int, int]]:
    """First and last step of each tensor; the model's inputs and outputs stay."""
    end = len(plan.steps)
    lives = [(end, -1)] * len(plan.tensors)
    for at, step in enumerate(plan.steps):
        for number in (*step.inputs, *step.outputs):
            first, last = lives[number]
            lives[number] = min(first, at), max(last, at)
    return [(-1, end) if n in border else lives[n] for n in range(len(lives))]


def compile_graph(graph: Graph, crc: int = 0) -> bytes:
    """Compile a graph that `read_graph` gave; see `compile_model`."""
    try:
        return _compile(graph, crc)
    except Unsupported as reason:
        raise UnsupportedOpError(
            f"the engine does not support this model: {reason}", (str(reason),)
        ) from None


def _compile(graph: Graph, crc: int) -> bytes:
    builder, missing = _lower_all(graph)
    if missing:
        raise UnsupportedOpError(
            "the engine does not support " + ", ".join(missing), missing
        )
    plan = _Plan(builder)
    plan.steps = [
        step._replace(
            inputs=tuple(plan.number(t) for t in step.inputs),
            outputs=tuple(plan.number(t) for t in step.outputs),
        )
        for step in plan.steps
    ]
    taken: set[int] = set()
    inputs = [plan.border(t, taken) for t in graph.inputs]
    outputs = [plan.border(t, taken) for t in graph.outputs]

    sizes = [tensor.elements for tensor in plan.tensors]
    offsets, arena_bytes = _place(sizes, _lifetimes(plan, taken))
    if arena_bytes > MAX_BYTES:
        raise Unsupported(f"needs {arena_bytes} bytes of arena, at most {MAX_BYTES}")
    places = []
    for tensor, host, offset, size in zip(
        plan.tensors, plan.host, offsets, sizes, strict=True
    ):
        scale, zero = quantization(tensor)
        places.append(
            Place(
                tensor.name, tensor.dtype, host, tensor.shape, scale, zero, offset, size
            )
        )
    program = pack(places, plan.steps, inputs, outputs, builder.data, arena_bytes, crc)
    if len(program) > MAX_BYTES:
        raise Unsupported(f"needs {len(program)} bytes of program, at most {MAX_BYTES}")
    return program


def compile_model(data: bytes) -> bytes:
    """Compile a ``.tflite`` file into a program.

    Parameters
    ----------
    data : bytes
        The whole ``.tflite`` file.

    Returns
    -------
    bytes
        The program (``.mlk``): flat, position-independent, checked and run by
        ``kernel/engine``. The caller owns it.

    Raises
    ------
    UnsupportedOpError
        If the engine lacks an operator; ``operators`` names each one.
    ModelError
        If the file is no model, damaged, float-only or inconsistent.

    Thread safety
    -------------
    Pure function. Time and memory are bounded by the file's size.

    Examples
    --------
    >>> from pathlib import Path
    >>> compile_model(Path("models/readahead/model.tflite").read_bytes())[:4]
    b'MLKP'
    """
    return compile_graph(read_quantised(data), zlib.crc32(data))


def read_quantised(data: bytes) -> Graph:
    """Read a ``.tflite`` file and refuse one that is not quantised.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    Graph
        As from `read_graph`.

    Raises
    ------
    ModelError
        As `read_graph`; and for a float-only model.

    Thread safety
    -------------
    Pure function.
    """
    graph = read_graph(data)
    _check_quantised(graph)
    # also for the tflite back end, which crashes on some graphs without order
    _check_order(graph)
    return graph


def unsupported(graph: Graph) -> tuple[str, ...]:
    """Name the operators of a graph that the engine lacks, with the reason.

    Parameters
    ----------
    graph : Graph
        As `read_graph` gave it.

    Returns
    -------
    tuple of str
        Empty where the engine runs the whole graph.

    Raises
    ------
    ModelError
        If an operator is inconsistent.

    Thread safety
    -------------
    Pure function.
    """
    return _lower_all(graph)[1]


def describe_op(graph: Graph, op: Op) -> str:
    """One line for people: operator, operands, results."""

    def names(indices: tuple[int, ...]) -> str:
        shapes = [
            "-"
            if i < 0
            else f"{graph.tensors[i].dtype.lower()}"
            f"[{'x'.join(map(str, graph.tensors[i].shape))}]"
            for i in indices
        ]
        return ", ".join(shapes)

    return f"{op.name} v{op.version}: {names(op.inputs)} -> {names(op.outputs)}"
