# SPDX-License-Identifier: MIT
"""Read a ``.tflite`` file into plain Python objects, trusting none of its bytes.

Slot, enumeration and union numbers are those of version 3 of the TFLite schema
(``tensorflow/lite/schema/schema.fbs``). Tables are reached through the
``flatbuffers`` library; every offset and length is checked against the file
before it is used, and the number of tables read is bounded, so a hostile file
costs a `ModelError` and nothing else.
"""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from flatbuffers import encode, number_types
from flatbuffers.table import Table

from ..errors import ModelError
from ..operators import OPERATORS

T = TypeVar("T")

MAX_FILE_BYTES = 1 << 28
MAX_TENSORS = 4096
MAX_OPS = 4096
MAX_RANK = 16
SCHEMA_VERSION = 3

DTYPES = (
    "FLOAT32 FLOAT16 INT32 UINT8 INT64 STRING BOOL INT16 COMPLEX64 INT8 FLOAT64 "
    "COMPLEX128 UINT64 RESOURCE VARIANT UINT32 UINT16 INT4 BFLOAT16"
).split()

ITEM_BYTES = {
    "FLOAT32": 4,
    "INT32": 4,
    "UINT8": 1,
    "INT64": 8,
    "BOOL": 1,
    "INT16": 2,
    "INT8": 1,
    "FLOAT16": 2,
    "FLOAT64": 8,
}

ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")


class Tensor(NamedTuple):
    """One tensor: its shape, quantisation and, if constant, its bytes."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    name: str
    dtype: str
    shape: tuple[int, ...]
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    quantized_dimension: int
    data: bytes | None
    is_variable: bool

    @property
    def elements(self) -> int:
        """Number of elements."""
        count = 1
        for dim in self.shape:
            count *= dim
        return count

    def __str__(self) -> str:
        """Number, name, dtype and shape."""
        shape = "x".join(map(str, self.shape)) or "scalar"
        return f"tensor {self.index} '{self.name}' ({self.dtype} {shape})"


class Op(NamedTuple):
    """One operator; -1 among its inputs stands for an optional one left out."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    code: int
    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: "Options"
    # tensors that never are; only their quantisation counts
    intermediates: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Place and name."""
        return f"op[{self.index}] {self.name}"


class Graph(NamedTuple):
    """A subgraph of a model: the main one, which has the others, or another."""

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int
    description: str
    others: "tuple[Graph, ...]" = ()


class _Budget:
    """Bytes that may still be read from vectors.

    A file in which thousands of tables name one long vector would cost its square.
    """

    def __init__(self, data: bytes) -> None:
        self.left = 2 * len(data) + (1 << 16)
        self.contents: dict[tuple[int, int], bytes] = {}

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ModelError("damaged: its vectors overlap, or one is named too often")


class _Checked(Table):  # type: ignore[misc]
    """A flatbuffers table whose every access stays inside the file."""

    __slots__ = ("budget",)

    def __init__(self, data: bytes, position: int, budget: _Budget) -> None:
        super().__init__(data, position)
        self.budget = budget
        # Whole, even if nobody asks for a field: that finds a file that was cut.
        vtable = position - int(self.Get(number_types.SOffsetTFlags, position))
        sizes = [
            int(self.Get(number_types.VOffsetTFlags, vtable + at)) for at in (0, 2)
        ]
        for start, size in zip((vtable, position), sizes, strict=True):
            if size < 4 or start + size > len(data):
                raise ModelError(
                    f"truncated or damaged: a table of {size} bytes at offset {start} "
                    f"of {len(data)}"
                )

    def Get(self, flags: Any, off: int) -> Any:
        if off < 0 or off + flags.bytewidth > len(self.Bytes):
            raise ModelError(
                f"truncated or damaged: needs {flags.bytewidth} bytes at offset "
                f"{off} of {len(self.Bytes)}"
            )
        return encode.Get(flags.packer_type, self.Bytes, off)

    def slot(self, index: int) -> int:
        """Absolute position of a field, or 0 where it is left out."""
        place = self.Offset(4 + 2 * index)
        return self.Pos + place if place else 0

    def number(self, index: int, flags: Any, default: Any = 0) -> Any:
        at = self.slot(index)
        return self.Get(flags, at) if at else default

    def target(self, at: int) -> int:
        """Follow the offset that stands at a position."""
        return at + int(self.Get(number_types.UOffsetTFlags, at))

    def vector(self, index: int, item_bytes: int) -> tuple[int, int]:
        """Start and length of a vector that lies wholly inside the file."""
        at = self.slot(index)
        if not at:
            return 0, 0
        start = self.target(at)
        count = int(self.Get(number_types.UOffsetTFlags, start))
        if count * item_bytes > len(self.Bytes) - start - 4:
            raise ModelError(
                f"truncated or damaged: a vector of {count} items at offset {start} "
                f"does not fit into {len(self.Bytes)} bytes"
            )
        return start + 4, count

    def content(self, index: int) -> bytes:
        """A vector of bytes; often shared, so copied once."""
        place = self.vector(index, 1)
        if place not in self.budget.contents:
            start, count = place
            self.budget.spend(count)
            self.budget.contents[place] = bytes(self.Bytes[start : start + count])
        return self.budget.contents[place]

    def numbers(self, index: int, code: str) -> tuple[Any, ...]:
        width = struct.calcsize("<" + code)
        start, count = self.vector(index, width)
        self.budget.spend(count * width)
        return struct.unpack_from(f"<{count}{code}", self.Bytes, start)

    def text(self, index: int) -> str:
        start, count = self.vector(index, 1)
        self.budget.spend(count)
        return bytes(self.Bytes[start : start + count]).decode("utf-8", "replace")

    def table(self, index: int) -> "_Checked | None":
        at = self.slot(index)
        return _Checked(self.Bytes, self.target(at), self.budget) if at else None

    def tables(self, index: int, limit: int, what: str) -> "list[_Checked]":
        start, count = self.vector(index, 4)
        if count > limit:
            raise ModelError(f"{count} {what}; at most {limit} are supported")
        # subgraphs may share these vectors
        self.budget.spend(4 * count)
        return [
            _Checked(self.Bytes, self.target(start + 4 * i), self.budget)
            for i in range(count)
        ]


class Options:
    """The options table of one operator, read by slot; absent ones have defaults."""

    def __init__(self, table: _Checked | None) -> None:
        self._table = table

    def _number(self, index: int, flags: Any, default: Any) -> Any:
        if self._table is None:
            return default
        return self._table.number(index, flags, default)

    def enum(self, index: int) -> int:
        """An enumeration or int8 field."""
        return int(self._number(index, number_types.Int8Flags, 0))

    def integer(self, index: int, default: int = 0) -> int:
        """An int32 field."""
        return int(self._number(index, number_types.Int32Flags, default))

    def integers(self, index: int) -> tuple[int, ...]:
        """A vector of int32."""
        return () if self._table is None else self._table.numbers(index, "i")

    def text(self, index: int) -> str:
        """A string."""
        return "" if self._table is None else self._table.text(index)

    def flag(self, index: int, default: bool = False) -> bool:
        """A bool field; the default is the schema's, for a table without it."""
        if self._table is None:
            return False
        return bool(self._number(index, number_types.BoolFlags, default))

    def real(self, index: int) -> float:
        """A float32 field."""
        return float(self._number(index, number_types.Float32Flags, 0.0))


def _quantization(
    table: _Checked | None,
) -> tuple[tuple[float, ...], tuple[int, ...], int]:
    if table is None:
        return (), (), 0
    scales = table.numbers(2, "f")
    zero_points = table.numbers(3, "q")
    axis = table.number(6, number_types.Int32Flags)
    return scales, zero_points, axis


def _tensor(table: _Checked, index: int, buffers: list[_Checked]) -> Tensor:
    name = table.text(3)
    code = table.number(1, number_types.Int8Flags)
    dtype = DTYPES[code] if 0 <= code < len(DTYPES) else f"type {code}"
    shape = table.numbers(0, "i")
    if len(shape) > MAX_RANK:
        raise ModelError(
            f"tensor {index} '{name}': {len(shape)} dimensions, at most {MAX_RANK} "
            "are supported"
        )
    if any(dim < 0 for dim in shape):
        raise ModelError(f"tensor {index} '{name}': negative dimension in {shape}")
    buffer = table.number(2, number_types.Uint32Flags)
    if buffer >= max(len(buffers), 1):
        raise ModelError(
            f"tensor {index} '{name}': names buffer {buffer} of {len(buffers)}"
        )
    data = None
    if buffer:
        # an empty buffer is no data
        data = buffers[buffer].content(0) or None
    scales, zero_points, axis = _quantization(table.table(4))
    variable = bool(table.number(5, number_types.BoolFlags, False))
    tensor = Tensor(
        index, name, dtype, shape, scales, zero_points, axis, data, variable
    )
    if data is not None and dtype in ITEM_BYTES:
        expected = tensor.elements * ITEM_BYTES[dtype]
        if len(data) != expected:
            raise ModelError(
                f"{tensor}: has {len(data)} bytes of data, expected {expected}"
            )
    return tensor


def _operator_code(table: _Checked) -> tuple[int, str, int]:
    """Number, name and version; old files have the number in one byte only."""
    old = table.number(0, number_types.Int8Flags)
    new = table.number(3, number_types.Int32Flags)
    code = max(old, new)
    version = table.number(2, number_types.Int32Flags, 1)
    if not 0 <= code < len(OPERATORS):
        return code, f"operator {code} (unknown: from a newer TFLite?)", version
    name = OPERATORS[code]
    if name == "CUSTOM":
        name = f"CUSTOM '{table.text(1)}'"
    return code, name, version


def _op(
    table: _Checked, index: int, codes: list[tuple[int, str, int]], tensors: int
) -> Op:
    which = table.number(0, number_types.Uint32Flags)
    if which >= len(codes):
        raise ModelError(f"op[{index}]: names operator code {which} of {len(codes)}")
    code, name, version = codes[which]
    inputs, outputs = table.numbers(1, "i"), table.numbers(2, "i")
    intermediates = table.numbers(8, "i")
    for number in (*inputs, *outputs, *intermediates):
        if not -1 <= number < tensors:
            raise ModelError(f"op[{index}] {name}: names tensor {number} of {tensors}")
    if -1 in outputs:
        raise ModelError(f"op[{index}] {name}: an output is missing")
    options = Options(table.table(4))
    return Op(index, code, name, version, inputs, outputs, options, intermediates)


def _guarded(read: Callable[[bytes], T], data: bytes) -> T:
    """Run a reader; whatever damage makes the library stumble is a ModelError."""
    try:
        return read(data)
    except (struct.error, IndexError, TypeError, OverflowError) as error:
        raise ModelError(f"truncated or damaged: {error}") from error


def _graph(
    table: _Checked, codes: list[tuple[int, str, int]], buffers: list[_Checked]
) -> Graph:
    tables = table.tables(0, MAX_TENSORS, "tensors")
    tensors = tuple(_tensor(t, i, buffers) for i, t in enumerate(tables))
    ops = tuple(
        _op(t, i, codes, len(tensors))
        for i, t in enumerate(table.tables(3, MAX_OPS, "operators"))
    )
    inputs, outputs = table.numbers(1, "i"), table.numbers(2, "i")
    for number in (*inputs, *outputs):
        if not 0 <= number < len(tensors):
            raise ModelError(f"the model names tensor {number} of {len(tensors)}")
    return Graph(tensors, ops, inputs, outputs, 1, "")


def _read(data: bytes) -> Graph:
    start = struct.unpack_from("<I", data)[0]
    root = _Checked(data, start, _Budget(data))
    version = root.number(0, number_types.Uint32Flags)
    if version != SCHEMA_VERSION:
        raise ModelError(
            f"schema version {version} found, version {SCHEMA_VERSION} expected"
            + ("; the file is from the future" if version > SCHEMA_VERSION else "")
        )
    codes = [_operator_code(t) for t in root.tables(1, MAX_OPS, "operator codes")]
    subgraphs = root.tables(2, MAX_OPS, "subgraphs")
    if not subgraphs:
        raise ModelError("no subgraph: an empty model")
    buffers = root.tables(4, 2 * MAX_TENSORS, "buffers")
    for table in buffers:
        table.vector(0, 1)
    # Not used, but a file must have them whole: metadata and signatures.
    root.vector(5, 4)
    for slot in (6, 7):
        for table in root.tables(slot, MAX_OPS, "metadata or signatures"):
            table.vector(0, 1 if slot == 6 else 4)
    main, *others = [_graph(table, codes, buffers) for table in subgraphs]
    if not main.inputs or not main.outputs:
        raise ModelError(
            f"{len(main.inputs)} inputs and {len(main.outputs)} outputs found"
        )
    return main._replace(
        subgraphs=len(subgraphs), description=root.text(3), others=tuple(others)
    )


def read_graph(data: bytes) -> Graph:
    """Read the main subgraph of a ``.tflite`` file.

    Parameters
    ----------
    data : bytes
        The whole file; kept by reference only while the call lasts.

    Returns
    -------
    Graph
        Plain objects that hold copies of what they need.

    Raises
    ------
    ModelError
        If the bytes are no TFLite model, truncated, damaged, too large, or of
        another schema version; the text names what was found.

    Thread safety
    -------------
    Pure function.

    Source
    ------
    ``tensorflow/lite/schema/schema.fbs``, version 3.

    Examples
    --------
    >>> read_graph(b"not a model")
    Traceback (most recent call last):
        ...
    pymlk.errors.ModelError: no .tflite model: 11 bytes, too short for a header
    """
    if len(data) < 16:
        raise ModelError(f"no .tflite model: {len(data)} bytes, too short for a header")
    if len(data) > MAX_FILE_BYTES:
        raise ModelError(f"{len(data)} bytes; at most {MAX_FILE_BYTES} are supported")
    identifier = data[4:8]
    if identifier != b"TFL3":
        if identifier[:3] == b"TFL":
            raise ModelError(
                f"file identifier {identifier!r} found, b'TFL3' expected: "
                "the file is from another version of TFLite"
            )
        raise ModelError(
            f"no .tflite model: bytes 4 to 7 are {identifier!r}, b'TFL3' expected"
        )
    return _guarded(_read, data)
