# SPDX-License-Identifier: MIT
"""The head of a program: its last FULLY_CONNECTED, read as floats and written anew.

What a device learns changes the head alone. This module is loaded in the running
loop, so it needs neither the compiler nor numpy; the engine's verifier has the last
word on every program that it writes.
"""

from __future__ import annotations

import math
import struct
from array import array
from itertools import accumulate

from .engine import Program
from .errors import ModelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# kernel/engine/mlk_engine.h: struct mlk_header, mlk_tensor up to scale, mlk_op
_HEADER = struct.Struct("<IHHIIQQIIIIIIIHHHHHH")
_TENSOR = struct.Struct("<BBBBIIif")
_TENSOR_BYTES = 48
_OP = struct.Struct("<HH4H2H12I")
_OP_BYTES = 112
_WORDS_AT = 16  # of an operator's parameters, in it
_COPY, _LUT, _FULLY_CONNECTED, _SOFTMAX = 1, 2, 3, 4
_LOGISTIC = 14  # TFLite's number of it, by which a LUT tells what it was
_CHECKED_FROM = 24
_ALIGN, _CACHE_LINE = 16, 64
# More than this is no decision over a knob's values.
MAX_FEATURES, MAX_ACTIONS = 4096, 64


class Head:
    """The last layer of a program, in real numbers.

    Attributes
    ----------
    op : int
        Its number among the program's operators.
    features, actions : int
        Its inputs and outputs.
    in_scale, in_zero : float, int
        Quantisation of its inputs.
    out_scale, out_zero : float, int
        Quantisation of its outputs, the logits.
    weights : array of float32, shape (actions, features)
        Row by row; owned by this object.
    bias : array of float32, shape (actions,)
        Owned by this object.

    Thread safety
    -------------
    Plain values; share it as long as nobody writes.
    """

    __slots__ = (
        "_arrays",
        "actions",
        "bias",
        "features",
        "in_scale",
        "in_zero",
        "op",
        "out_scale",
        "out_zero",
        "weights",
    )

    def __init__(self, data: bytes, op: int, words: tuple[int, ...]) -> None:
        self.op = op
        self.features, self.actions = words[0], words[1]
        self.weights = array("f")
        self.bias = array("f")
        self.in_scale = self.out_scale = 1.0
        self.in_zero = self.out_zero = 0
        self._arrays = _Arrays(data, words)

    def _dequantise(self) -> None:
        """Fill the weights from the arrays and the scales."""
        arrays = self._arrays
        for i in range(self.actions):
            row = arrays.row(i)
            real = math.ldexp(arrays.multiplier[i], arrays.shift[i] - 31)
            scale = real * self.out_scale / self.in_scale
            folded = _wrap32(arrays.bias[i] + self.in_zero * sum(row))
            self.weights.extend(scale * w for w in row)
            self.bias.append(scale * self.in_scale * folded)


class _Arrays:
    """What ``struct mlk_weights`` points to: integers, padded to whole blocks."""

    __slots__ = ("bias", "features", "multiplier", "packed", "shift", "unsigned")

    def __init__(self, data: bytes, words: tuple[int, ...]) -> None:
        self.features = words[0]
        outputs = -(-words[1] // 16) * 16
        blocks = memoryview(data)[words[2] :][: outputs * (-(-words[0] // 4) * 4)]
        self.packed = bytearray(blocks)
        tables = [array("i", data[at : at + 4 * outputs]) for at in (words[3:7])]
        self.bias, self.unsigned, self.multiplier, self.shift = tables

    def _pieces(self, output: int) -> range:
        """Where four inputs after four of an output's lie."""
        across = -(-self.features // 4) * 64
        start = output // 16 * across + output % 16 * 4
        return range(start, start + across, 64)

    def row(self, output: int) -> list[int]:
        """The int8 weights of an output."""
        packed = b"".join([self.packed[at : at + 4] for at in self._pieces(output)])
        return memoryview(packed).cast("b").tolist()[: self.features]

    def set_row(self, output: int, row: list[int]) -> None:
        """Replace them."""
        padded = struct.pack(f"{len(row)}b", *row) + bytes(-len(row) % 4)
        for i, at in enumerate(self._pieces(output)):
            self.packed[at : at + 4] = padded[4 * i : 4 * i + 4]

    def parts(self) -> list[bytes]:
        """All arrays in the order of the parameters."""
        tables = (self.bias, self.unsigned, self.multiplier, self.shift)
        return [bytes(self.packed), *(table.tobytes() for table in tables)]


def _wrap32(value: int) -> int:
    return ((value + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def _f32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _multiplier(real: float) -> tuple[int, int]:
    """QuantizeMultiplier, as pymlk.compile.arith has it: that may be left out here."""
    mantissa, shift = math.frexp(real)
    multiplier = math.floor(mantissa * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = 1 << 30, shift + 1
    if not -31 <= shift <= 30:
        raise ModelError(f"head: a ratio of scales of {real:g} is beyond int32")
    return multiplier, shift


def _refuse(text: str) -> ModelError:
    return ModelError(f"this model cannot learn: {text}")


def _tensor(
    data: bytes, header: tuple[int, ...], number: int
) -> tuple[int, int, float]:
    """Place in the arena, zero point and scale of a tensor."""
    found = _TENSOR.unpack_from(data, header[9] + number * _TENSOR_BYTES)
    return found[4], found[6], found[7]


def _find(data: bytes) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Number, operands and parameters of the last FULLY_CONNECTED."""
    header = _HEADER.unpack_from(data)
    n_ops, n_inputs, n_outputs, n_init = header[15:19]
    if n_outputs != 1:
        raise _refuse(f"{n_outputs} outputs found, 1 expected")
    (number,) = struct.unpack_from("<H", data, header[11] + 2 * n_inputs)
    place = _tensor(data, header, number)[0]
    for op in range(n_ops - 1, n_init - 1, -1):
        found = _OP.unpack_from(data, header[10] + op * _OP_BYTES)
        opcode, source, operand, result = found[0], found[1], found[2], found[6]
        if _tensor(data, header, result)[0] != place:
            break
        if opcode == _FULLY_CONNECTED:
            return op, (operand, result), found[8:]
        if opcode not in (_SOFTMAX, _COPY) and (opcode, source) != (_LUT, _LOGISTIC):
            break
        place = _tensor(data, header, operand)[0]
    raise _refuse(
        "its output is not that of a FULLY_CONNECTED, or of a SOFTMAX or LOGISTIC "
        "behind one"
    )


def read_head(program: bytes) -> Head:
    """Read the last FULLY_CONNECTED of a program, followed by at most one function.

    Parameters
    ----------
    program : bytes
        A program; it is verified.

    Returns
    -------
    Head
        Its weights as real numbers, and how its inputs and outputs are quantised.

    Raises
    ------
    ModelError
        If the program is refused, or does not end in such a layer of one row, int8
        weights without zero point and no fused activation.

    Thread safety
    -------------
    Pure function.

    Examples
    --------
    >>> from pymlk import Model
    >>> head = read_head(bytes(Model("models/readahead/model.tflite").program))
    >>> head.features, head.actions
    (12, 5)
    """
    # its own length: there may be others behind it
    data = bytes(Program(program))
    op, operands, words = _find(data)
    if words[10] != 1 or words[11] != 0 or words[8:10] != (-128 & 0xFFFFFFFF, 127):
        raise _refuse(
            f"op[{op}] has {words[10]} rows, weights with a zero point or a fused "
            "activation; one row and neither expected"
        )
    if words[0] > MAX_FEATURES or words[1] > MAX_ACTIONS:
        raise _refuse(
            f"op[{op}] has {words[0]} inputs and {words[1]} outputs, at most "
            f"{MAX_FEATURES} and {MAX_ACTIONS} expected"
        )
    head = Head(data, op, words)
    header = _HEADER.unpack_from(data)
    _, head.in_zero, head.in_scale = _tensor(data, header, operands[0])
    _, head.out_zero, head.out_scale = _tensor(data, header, operands[1])
    head._dequantise()
    return head


def _quantise(
    head: Head, weights: Sequence[float], bias: float
) -> tuple[list[int], int, int, int]:
    """A row's int8 weights, its int32 bias, its multiplier and shift.

    Symmetric, with a scale of the row's own: the finest in which the largest weight
    fits; not so fine that the bias would not fit, or that no step could be seen.
    """
    least = math.ldexp(head.out_scale / head.in_scale, -20)
    largest = max(map(abs, weights)) / 127
    scale = _f32(max(largest, abs(bias) / head.in_scale / (1 << 30), least))
    row = [max(-127, min(127, round(w / scale))) for w in weights]
    # as the compiler has it for weights per channel: in double
    multiplier, shift = _multiplier(head.in_scale * scale / head.out_scale)
    return row, round(bias / (head.in_scale * scale)), multiplier, shift


def _with_arrays(data: bytes, op: int, parts: list[bytes]) -> bytes:
    """A program whose head names new arrays, which come behind all others.

    Equal arrays are stored once, so an old one may be another layer's, too.
    """
    header = list(_HEADER.unpack_from(data))
    names = header[13]
    added = bytearray()
    offsets = []
    for part in parts:
        # as the compiler does: long ones are read a cache line at a time
        step = _CACHE_LINE if len(part) >= 8 * _CACHE_LINE else _ALIGN
        added += bytes(-(names + len(added)) % step)
        offsets.append(names + len(added))
        added += part
    added += bytes(-len(added) % _ALIGN)
    program = bytearray(data[:names] + added + data[names:])
    at = header[10] + op * _OP_BYTES + _WORDS_AT + 8
    struct.pack_into("<5I", program, at, *offsets)
    header[3] += len(added)
    header[13] += len(added)
    header[5] = 0
    _HEADER.pack_into(program, 0, *header)
    words = memoryview(program)[_CHECKED_FROM:].cast("I")
    total, totals = sum(words), sum(accumulate(words))
    words.release()
    header[5] = (totals & 0xFFFFFFFF) << 32 | total & 0xFFFFFFFF
    _HEADER.pack_into(program, 0, *header)
    return bytes(program)


def replace_head(
    program: bytes, weights: Sequence[float], bias: Sequence[float]
) -> bytes:
    """Write a program again with other weights in its last FULLY_CONNECTED.

    A row that equals what `read_head` gave keeps its integers; any other one is
    quantised anew, with a scale of its own. The quantisation of inputs and outputs
    stays. The program grows by the size of the head, so start from the shipped one
    each time.

    Parameters
    ----------
    program : bytes
        A program that `read_head` accepts.
    weights : sequence of float, shape (actions * features,)
        Row by row; float32.
    bias : sequence of float, shape (actions,)
        In units of the logits.

    Returns
    -------
    bytes
        A program that the verifier has accepted; `program` itself if nothing differs.

    Raises
    ------
    ModelError
        As `read_head`; and if a weight is not finite or too large for the arithmetic.
    ValueError
        If there are more or fewer numbers than the head has.

    Thread safety
    -------------
    Pure function.

    Examples
    --------
    >>> from pymlk import Model
    >>> program = bytes(Model("models/readahead/model.tflite").program)
    >>> head = read_head(program)
    >>> replace_head(program, head.weights, head.bias) == program
    True
    """
    head = read_head(program)
    if len(weights) != len(head.weights) or len(bias) != head.actions:
        raise ValueError(
            f"head: {len(weights)} weights and {len(bias)} biases found, "
            f"{len(head.weights)} and {head.actions} expected"
        )
    if not all(map(math.isfinite, (*weights, *bias))):
        raise ModelError("head: a weight that is not finite found")
    weights, bias = array("f", weights), array("f", bias)
    arrays, changed = head._arrays, False
    for i in range(head.actions):
        span = slice(i * head.features, (i + 1) * head.features)
        if weights[span] == head.weights[span] and bias[i] == head.bias[i]:
            continue
        changed = True
        row, folded, multiplier, shift = _quantise(head, weights[span], bias[i])
        folded -= head.in_zero * sum(row)
        arrays.set_row(i, row)
        arrays.bias[i] = _wrap32(folded)
        arrays.unsigned[i] = _wrap32(folded - 128 * sum(row))
        arrays.multiplier[i], arrays.shift[i] = multiplier, shift
    data = bytes(Program(program))
    if not changed:
        return data
    written = _with_arrays(data, head.op, arrays.parts())
    Program(written)
    return written
