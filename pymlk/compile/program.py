# SPDX-License-Identifier: MIT
"""Lay out a program: the Python twin of ``kernel/engine/mlk_engine.h``.

The engine's verifier checks every byte that is written here, so the two cannot
drift apart unnoticed.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

MAGIC = 0x504B4C4D
VERSION = 1
ALIGN = 16
CACHE_LINE = 64
NO_TENSOR = 0xFFFF
NO_SOURCE = 0xFFFF  # a step that no operator of the model asked for
PARAM_WORDS = 24
MAX_RANK = 6

# enum mlk_dtype: code and bytes of an element
DTYPES = {
    "FLOAT32": (0, 4),
    "INT32": (2, 4),
    "UINT8": (3, 1),
    "INT64": (4, 8),
    "INT16": (7, 2),
    "INT8": (9, 1),
}
CONST = 1  # enum mlk_tensor_flag

# MLK_OPS
OP_COPY = 1
OP_LUT = 2
OP_FULLY_CONNECTED = 3
OP_SOFTMAX = 4
OP_CONV_2D = 5
OP_MOVE = 10
OP_FILL = 11
OP_TAKE = 12
OP_DEPTHWISE_CONV = 20
OP_POOL = 21
OP_REDUCE = 22
OP_ARG_EXTREME = 23
OP_TRANSPOSE_CONV = 24
OP_RESIZE_BILINEAR = 25
OP_SPACE_BATCH = 26
OP_L2_NORM = 27
OP_BINARY = 30
OP_LOG_SOFTMAX = 31
OP_BATCH_MATMUL = 32
OP_REQUANTIZE = 33
OP_LUT_S16 = 34
OP_SIGMOID_S16 = 35
OP_SOFTMAX_S16 = 36
OP_CONV_S16 = 40
OP_POOL_S16 = 41
OP_RSQRT_S16 = 42
OP_SVDF = 50
OP_LSTM = 51

OPCODES = {
    value: name.removeprefix("OP_")
    for name, value in list(globals().items())
    if name.startswith("OP_")
}

# struct mlk_weights: packed in blocks of 16 outputs by 4 inputs
BLOCK_OUTPUTS = 16
BLOCK_INPUTS = 4

_HEADER = struct.Struct("<IHHIIQQIIIIIIIHHHHHH")
_TENSOR = struct.Struct("<BBBBIIifI6I")
_OP = struct.Struct("<HH4H2H")
# The checksum covers everything behind itself.
_CHECKED_FROM = 24


class Place(NamedTuple):
    """An array: what it is and where it lies, in the arena or (`Ref`) in the data."""

    name: str
    dtype: str
    host_dtype: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    offset: "int | Ref"
    size: int


class Step(NamedTuple):
    """One operator; parameters are words, an offset into the data is a `Ref`."""

    opcode: int
    source: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    params: tuple["int | Ref", ...]
    macs: int


class Ref(NamedTuple):
    """A parameter that is an array in the program's data, by its data offset."""

    offset: int


class Data:
    """The data section: aligned arrays, equal ones stored once."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._known: dict[bytes, Ref] = {}

    def add(self, array: bytes) -> Ref:
        """Store an array and return its place."""
        if array not in self._known:
            # long ones are read a cache line at a time, where a program begins at one
            step = CACHE_LINE if len(array) >= 8 * CACHE_LINE else ALIGN
            self._bytes += bytes(-len(self._bytes) % step)
            self._known[array] = Ref(len(self._bytes))
            self._bytes += array
        return self._known[array]

    def add_s32(self, values: list[int]) -> Ref:
        """Store an array of int32."""
        return self.add(struct.pack(f"<{len(values)}i", *values))

    def content(self) -> bytes:
        """All arrays."""
        return bytes(self._bytes)


def aligned(offset: int) -> int:
    """The next multiple of the alignment."""
    return offset + -offset % ALIGN


def checksum(words: bytes) -> int:
    """mlk_program_checksum: two running 32-bit sums."""
    total = totals = 0
    for (word,) in struct.iter_unpack("<I", words):
        total = (total + word) & 0xFFFFFFFF
        totals = (totals + total) & 0xFFFFFFFF
    return totals << 32 | total


def _pack_name(name: str) -> bytes:
    return name.encode("utf-8", "replace").replace(b"\0", b"?") + b"\0"


def _pack_tensor(place: Place, name: int, data: int) -> bytes:
    dims = place.shape + (0,) * (6 - len(place.shape))
    constant = isinstance(place.offset, Ref)
    return _TENSOR.pack(
        DTYPES[place.dtype][0],
        DTYPES[place.host_dtype][0],
        len(place.shape),
        CONST if constant else 0,
        place.offset.offset + data if isinstance(place.offset, Ref) else place.offset,
        place.size,
        place.zero_point,
        place.scale,
        name,
        *dims,
    )


def opcodes(program: bytes) -> set[str]:
    """Names of the engine's operators that a verified program has.

    Parameters
    ----------
    program : bytes
        As `pack` writes it.

    Returns
    -------
    set of str
        Names of `OPCODES`, which Kconfig has behind ``MLK_OP_``.

    Thread safety
    -------------
    Pure function.

    Source
    ------
    struct mlk_header and struct mlk_op in kernel/engine/mlk_engine.h.

    Examples
    --------
    >>> from pymlk import Model
    >>> sorted(opcodes(bytes(Model("models/readahead/model.tflite").program)))
    ['FULLY_CONNECTED', 'SOFTMAX']
    """
    header = _HEADER.unpack_from(program)
    at, count = header[10], header[15]
    size = _OP.size + 4 * PARAM_WORDS
    return {OPCODES[_OP.unpack_from(program, at + i * size)[0]] for i in range(count)}


def _pack_step(step: Step, data: int) -> bytes:
    pad = (NO_TENSOR,) * 4
    inputs, outputs = (*step.inputs, *pad)[:4], (*step.outputs, *pad)[:2]
    words = [p.offset + data if isinstance(p, Ref) else p for p in step.params]
    words += [0] * (PARAM_WORDS - len(words))
    packed = struct.pack(f"<{PARAM_WORDS}I", *(w & 0xFFFFFFFF for w in words))
    return _OP.pack(step.opcode, step.source, *inputs, *outputs) + packed


def pack(
    places: list[Place],
    steps: list[Step],
    inputs: list[int],
    outputs: list[int],
    data: Data,
    arena_bytes: int,
    source_crc: int,
    init_steps: int = 0,
    name: str = "",
) -> bytes:
    """Write the program.

    Parameters
    ----------
    places : list of Place
        The tensors.
    steps : list of Step
        The operators in the order they run.
    inputs, outputs : list of int
        Numbers of the model's inputs and outputs among `places`.
    data : Data
        The arrays that the steps name.
    arena_bytes : int
        Size of the arena, a multiple of 16.
    source_crc : int
        CRC-32 of the ``.tflite`` file.
    init_steps : int
        So many steps from the first on run at a reset, not in a run.
    name : str
        The program's own.

    Returns
    -------
    bytes
        The program; its length is a multiple of four.
    """
    tensors_at = aligned(_HEADER.size)
    ops_at = aligned(tensors_at + len(places) * _TENSOR.size)
    io_at = ops_at + len(steps) * (_OP.size + 4 * PARAM_WORDS)
    io = struct.pack(f"<{len(inputs) + len(outputs)}H", *inputs, *outputs)
    content = data.content()
    data_at = -(-(io_at + len(io)) // CACHE_LINE) * CACHE_LINE
    names_at = aligned(data_at + len(content))

    names = bytearray(_pack_name(name))
    tensors = bytearray()
    for place in places:
        tensors += _pack_tensor(place, len(names), data_at)
        names += _pack_name(place.name)
    names += bytes(-len(names) % 4)
    ops = b"".join(_pack_step(step, data_at) for step in steps)

    def header(sums: int) -> bytes:
        return _HEADER.pack(
            MAGIC,
            VERSION,
            _HEADER.size,
            names_at + len(names),
            0,
            sums,
            sum(step.macs for step in steps),
            arena_bytes,
            source_crc,
            tensors_at,
            ops_at,
            io_at,
            data_at,
            names_at,
            len(places),
            len(steps),
            len(inputs),
            len(outputs),
            init_steps,
            0,
        )

    program = bytearray(header(0))
    for at, part in (
        (tensors_at, tensors),
        (ops_at, ops),
        (io_at, io),
        (data_at, content),
        (names_at, names),
    ):
        program += bytes(at - len(program))
        program += part
    program[: _HEADER.size] = header(checksum(bytes(program[_CHECKED_FROM:])))
    return bytes(program)


def source_crc(program: bytes) -> int:
    """CRC-32 of the ``.tflite`` that a program was made from."""
    return int(_HEADER.unpack_from(program)[8])


def join(programs: Sequence[bytes]) -> bytes:
    """Put programs behind each other, for one file.

    Parameters
    ----------
    programs : sequence of bytes
        Programs, each complete.

    Returns
    -------
    bytes
        What `pymlk.programs` and mlk_program_next() take apart again.
    """
    joined = bytearray()
    for program in programs:
        joined += bytes(-len(joined) % ALIGN) + program
    return bytes(joined)
