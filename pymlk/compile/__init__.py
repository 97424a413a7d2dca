# SPDX-License-Identifier: MIT
"""Compile a quantised ``.tflite`` model into a program for the engine.

``schema`` reads the file, ``lower`` turns its operators into engine steps,
``arith`` has TFLite's arithmetic for that, ``plan`` gives every tensor its place,
``program`` writes the result. This
package needs ``flatbuffers`` and nothing else; a device that gets its programs
ready-made needs none of it.
"""

import zlib

from ..errors import ModelError, UnsupportedOpError
from .lower import LOWER, STATES, Builder, Unsupported, folded
from .plan import Plan
from .program import source_crc
from .schema import Graph, Op, read_graph

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
            if folded(builder, op):
                continue
            if lower is None:
                raise Unsupported("no such operator in the engine")
            for position, number in enumerate(op.inputs):
                if position in STATES.get(op.name, ()):
                    continue
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


def compile_graph(
    graph: Graph, crc: int = 0, name: str = "", *, keep_inputs: bool = True
) -> bytes:
    """Compile a graph that `read_graph` gave; see `compile_model`."""
    try:
        return _compile(graph, crc, name, keep_inputs)
    except Unsupported as reason:
        raise UnsupportedOpError(
            f"the engine does not support this model: {reason}", (str(reason),)
        ) from None


def _compile(graph: Graph, crc: int, name: str, keep_inputs: bool) -> bytes:
    builder, missing = _lower_all(graph)
    if missing:
        raise UnsupportedOpError(
            "the engine does not support " + ", ".join(missing), missing
        )
    return Plan(builder, keep_inputs).program(crc, name)


def compile_model(data: bytes, name: str = "", *, keep_inputs: bool = True) -> bytes:
    """Compile a ``.tflite`` file into a program.

    Parameters
    ----------
    data : bytes
        The whole ``.tflite`` file.
    name : str, optional
        What the program is called, to find it in a file with several.
    keep_inputs : bool
        A run leaves the inputs as they are, so that only those that change need be
        written before the next one. ``False`` makes the arena smaller: each run
        overwrites its inputs, which may even lie where the outputs will.

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
    graph = read_quantised(data)
    return compile_graph(graph, zlib.crc32(data), name, keep_inputs=keep_inputs)


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
