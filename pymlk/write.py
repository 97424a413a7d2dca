# SPDX-License-Identifier: MIT
"""Write ``.tflite`` files from a plain description, without numpy or TensorFlow.

Slot, enumeration and union numbers are those of version 3 of the TFLite schema
(``tensorflow/lite/schema/schema.fbs``); a field's slot is its position in the table.
A further operator is one more row of ``_OPS``.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import flatbuffers

__all__ = ["DTYPES", "OPERATORS", "Layer", "Op", "Tensor", "build", "mlp"]

# schema.fbs, enum TensorType, and the bytes of one element.
DTYPES: Mapping[str, tuple[int, int]] = {
    "float32": (0, 4),
    "int32": (2, 4),
    "uint8": (3, 1),
    "int64": (4, 8),
    "bool": (6, 1),
    "int16": (7, 2),
    "int8": (9, 1),
    "resource": (13, 0),
}
# schema.fbs, enums ActivationFunctionType, Padding, MirrorPadMode.
_ACTIVATIONS = {
    "NONE": 0,
    "RELU": 1,
    "RELU_N1_TO_1": 2,
    "RELU6": 3,
    "TANH": 4,
    "SIGN_BIT": 5,
}
_PADDINGS = {"SAME": 0, "VALID": 1}
_MIRRORS = {"REFLECT": 0, "SYMMETRIC": 1}
_TYPES = {name: code for name, (code, _) in DTYPES.items()}
_ENUMS: Mapping[str, Mapping[str, int]] = {
    "activation": _ACTIVATIONS,
    "padding": _PADDINGS,
    "mirror": _MIRRORS,
    "type": _TYPES,
}

# BuiltinOperator numbers above this do not fit the old one-byte field, which then
# holds this value (schema.fbs, PLACEHOLDER_FOR_GREATER_OP_CODES).
_PLACEHOLDER = 127
_SCHEMA_VERSION = 3
_IDENTIFIER = b"TFL3"
# schema.fbs declares Buffer.data with force_align: 16.
_DATA_ALIGNMENT = 16


class _Field(NamedTuple):
    """One field of an options table."""

    name: str
    kind: str  # int, int8, bool, float, ints, text, or a key of _ENUMS
    default: float = 0  # the schema's default, which a writer may leave out
    preset: float | None = None  # what to write if the caller names no value


class _Row(NamedTuple):
    """One operator: its code, its options' number in the union, their fields."""

    code: int
    union: int = 0
    fields: tuple[_Field | None, ...] = ()


def _ints(*names: str) -> tuple[_Field, ...]:
    return tuple(_Field(name, "int") for name in names)


_ACT = _Field("activation", "activation")
_PAD = _Field("padding", "padding")
_ASYM = _Field("asymmetric_quantize_inputs", "bool")
_STRIDES = (_Field("stride_w", "int", 0, 1), _Field("stride_h", "int", 0, 1))
_DILATION = (_Field("dilation_w", "int", 1), _Field("dilation_h", "int", 1))
_POOL = (_PAD, *_STRIDES, *_ints("filter_width", "filter_height"), _ACT)
_POT = _Field("pot_scale_int16", "bool", 1)
_KEEP = (_Field("keep_dims", "bool"),)
_CORNERS = (_Field("align_corners", "bool"), _Field("half_pixel_centers", "bool"))
_CLIPS = (_Field("cell_clip", "float"), _Field("proj_clip", "float"))

# A None keeps the place of a field that the schema has withdrawn.
_OPS: Mapping[str, _Row] = {
    "ADD": _Row(0, 11, (_ACT, _POT)),
    "AVERAGE_POOL_2D": _Row(1, 5, _POOL),
    "CONCATENATION": _Row(2, 10, (*_ints("axis"), _ACT)),
    "CONV_2D": _Row(3, 1, (_PAD, *_STRIDES, _ACT, *_DILATION)),
    "DEPTHWISE_CONV_2D": _Row(
        4,
        2,
        (
            _PAD,
            *_STRIDES,
            _Field("depth_multiplier", "int", 0, 1),
            _ACT,
            *_DILATION,
        ),
    ),
    "DEPTH_TO_SPACE": _Row(5, 94, _ints("block_size")),
    "DEQUANTIZE": _Row(6, 38),
    "FLOOR": _Row(8),
    "FULLY_CONNECTED": _Row(
        9,
        8,
        (
            _ACT,
            _Field("weights_format", "int8"),
            _Field("keep_num_dims", "bool"),
            _ASYM,
        ),
    ),
    "L2_NORMALIZATION": _Row(11, 12, (_ACT,)),
    "LOGISTIC": _Row(14),
    "MAX_POOL_2D": _Row(17, 5, _POOL),
    "MUL": _Row(18, 21, (_ACT,)),
    "RELU": _Row(19),
    "RELU_N1_TO_1": _Row(20),
    "RELU6": _Row(21),
    "RESHAPE": _Row(22, 17, (_Field("new_shape", "ints"),)),
    "RESIZE_BILINEAR": _Row(23, 15, (None, None, *_CORNERS)),
    "SOFTMAX": _Row(25, 9, (_Field("beta", "float", 0, 1.0),)),
    "SPACE_TO_DEPTH": _Row(26, 19, _ints("block_size")),
    "SVDF": _Row(27, 6, (*_ints("rank"), _ACT, _ASYM)),
    "TANH": _Row(28),
    "CUSTOM": _Row(32),
    "PAD": _Row(34, 22),
    "GATHER": _Row(36, 23, _ints("axis", "batch_dims")),
    "BATCH_TO_SPACE_ND": _Row(37, 24),
    "SPACE_TO_BATCH_ND": _Row(38, 25),
    "TRANSPOSE": _Row(39, 26),
    "MEAN": _Row(40, 27, _KEEP),
    "SUB": _Row(41, 28, (_ACT, _POT)),
    "DIV": _Row(42, 29, (_ACT,)),
    "SQUEEZE": _Row(43, 30, (_Field("squeeze_dims", "ints"),)),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _Row(
        44, 71, (_ACT, *_CLIPS, _Field("time_major", "bool"), _ASYM)
    ),
    "STRIDED_SLICE": _Row(
        45,
        32,
        _ints(
            "begin_mask",
            "end_mask",
            "ellipsis_mask",
            "new_axis_mask",
            "shrink_axis_mask",
        ),
    ),
    "EXP": _Row(47, 33),
    "TOPK_V2": _Row(48, 34),
    "SPLIT": _Row(49, 35, _ints("num_splits")),
    "LOG_SOFTMAX": _Row(50, 36),
    "CAST": _Row(
        53, 37, (_Field("in_data_type", "type"), _Field("out_data_type", "type"))
    ),
    "PRELU": _Row(54),
    "MAXIMUM": _Row(55, 39),
    "ARG_MAX": _Row(56, 40, (_Field("output_type", "type"),)),
    "MINIMUM": _Row(57, 39),
    "LESS": _Row(58, 41),
    "NEG": _Row(59, 42),
    "PADV2": _Row(60, 43),
    "GREATER": _Row(61, 44),
    "GREATER_EQUAL": _Row(62, 45),
    "LESS_EQUAL": _Row(63, 46),
    "SELECT": _Row(64, 47),
    "SLICE": _Row(65, 48),
    "TRANSPOSE_CONV": _Row(67, 49, (_PAD, *_STRIDES, _ACT)),
    "TILE": _Row(69, 51),
    "EXPAND_DIMS": _Row(70, 52),
    "EQUAL": _Row(71, 53),
    "NOT_EQUAL": _Row(72, 54),
    "LOG": _Row(73),
    "SUM": _Row(74, 27, _KEEP),
    "SQRT": _Row(75),
    "RSQRT": _Row(76),
    "SHAPE": _Row(77, 55, (_Field("out_type", "type"),)),
    "ARG_MIN": _Row(79, 57, (_Field("output_type", "type"),)),
    "REDUCE_PROD": _Row(81, 27, _KEEP),
    "REDUCE_MAX": _Row(82, 27, _KEEP),
    "PACK": _Row(83, 59, _ints("values_count", "axis")),
    "LOGICAL_NOT": _Row(87, 63),
    "UNPACK": _Row(88, 64, _ints("num", "axis")),
    "REDUCE_MIN": _Row(89, 27, _KEEP),
    "SQUARE": _Row(92, 66),
    "RESIZE_NEAREST_NEIGHBOR": _Row(97, 74, _CORNERS),
    "LEAKY_RELU": _Row(98, 75, (_Field("alpha", "float"),)),
    "SQUARED_DIFFERENCE": _Row(99, 76),
    "MIRROR_PAD": _Row(100, 77, (_Field("mode", "mirror"),)),
    "ABS": _Row(101, 78),
    "SPLIT_V": _Row(102, 79, _ints("num_splits")),
    "REVERSE_V2": _Row(105, 81),
    "ELU": _Row(111),
    "QUANTIZE": _Row(114, 89),
    "HARD_SWISH": _Row(117, 91),
    "SELECT_V2": _Row(123, 98),
    "BATCH_MATMUL": _Row(
        126, 101, (_Field("adj_x", "bool"), _Field("adj_y", "bool"), _ASYM)
    ),
    "CALL_ONCE": _Row(129, 103, _ints("init_subgraph_index")),
    "BROADCAST_TO": _Row(130, 104),
    "VAR_HANDLE": _Row(
        142, 111, (_Field("container", "text"), _Field("shared_name", "text"))
    ),
    "READ_VARIABLE": _Row(143, 112),
    "ASSIGN_VARIABLE": _Row(144, 113),
    "GELU": _Row(150, 116, (_Field("approximate", "bool"),)),
    "RELU_0_TO_1": _Row(152),
}
OPERATORS: tuple[str, ...] = tuple(_OPS)


@dataclass(frozen=True)
class Tensor:
    """One tensor of the graph.

    Parameters
    ----------
    name : str
        Name in the file.
    shape : sequence of int
        Dimensions; empty for a scalar.
    dtype : str
        A key of ``DTYPES``.
    scales : sequence of float
        One scale, one per slice of ``quantized_dimension``, or none.
    zero_points : sequence of int
        As many as scales; if empty and there are scales, zeros are written.
    quantized_dimension : int
        Dimension that per-channel scales run along.
    data : bytes, optional
        Little-endian constant contents, borrowed until `build` returns.
    is_variable : bool
        State that a stateful operator keeps between calls.

    Thread safety
    -------------
    Immutable; may be shared.

    Examples
    --------
    >>> Tensor("x", (1, 4), "int8", scales=(0.5,), zero_points=(-3,)).dtype
    'int8'
    """

    name: str
    shape: Sequence[int]
    dtype: str
    scales: Sequence[float] = ()
    zero_points: Sequence[int] = ()
    quantized_dimension: int = 0
    data: bytes | None = None
    is_variable: bool = False


@dataclass(frozen=True)
class Op:
    """One operator of the graph.

    Parameters
    ----------
    name : str
        A name in ``OPERATORS``.
    inputs, outputs : sequence of int
        Indices of tensors; -1 stands for an absent optional input.
    version : int
        Operator version, written as it is.
    options : mapping
        Options by name: int, bool, float, a sequence of int, or the name of an
        enumerated value such as ``"RELU"`` or ``"SAME"``.
    custom : str
        Name of the custom operator, for ``CUSTOM`` only.
    intermediates : sequence of int
        Tensors that only tell how the operator quantises inside.

    Thread safety
    -------------
    Immutable; may be shared.

    Examples
    --------
    >>> Op("SOFTMAX", (0,), (1,), options={"beta": 0.5}).version
    1
    """

    name: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    version: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    custom: str = ""
    intermediates: Sequence[int] = ()


def build(
    tensors: Sequence[Tensor],
    ops: Sequence[Op],
    inputs: Sequence[int],
    outputs: Sequence[int],
    *,
    description: str = "",
    check: bool = True,
    others: Sequence[tuple[Sequence[Tensor], Sequence[Op]]] = (),
) -> bytes:
    """Write a model.

    Parameters
    ----------
    tensors : sequence of Tensor
        All tensors; operators name them by position.
    ops : sequence of Op
        Operators in the order in which they run.
    inputs, outputs : sequence of int
        The graph's inputs and outputs, as tensor indices.
    description : str
        Free text kept in the file.
    check : bool
        Reject tensors and indices that make no sense. ``False`` writes them as they
        are, to test how a reader takes a bad file.
    others : sequence of (sequence of Tensor, sequence of Op)
        Further subgraphs without inputs and outputs, such as CALL_ONCE runs.

    Returns
    -------
    bytes
        The ``.tflite`` file.

    Raises
    ------
    ValueError
        An unknown data type, operator, option or enumerated value; or, with `check`,
        data of the wrong length, an odd number of scales, an index out of range.

    Thread safety
    -------------
    No shared state; may be called from any thread.

    Examples
    --------
    >>> x = Tensor("x", (1, 4), "int8", (0.1,), (0,))
    >>> y = Tensor("y", (1, 4), "int8", (1 / 256,), (-128,))
    >>> build([x, y], [Op("SOFTMAX", (0,), (1,))], [0], [1])[4:8]
    b'TFL3'
    """
    graphs = [(tensors, ops, inputs, outputs), *((t, o, (), ()) for t, o in others)]
    if check:
        for graph in graphs:
            _check(*graph)
    b = flatbuffers.Builder(1024)
    codes: dict[tuple[int, int, str], int] = {}
    for op in (op for graph in graphs for op in graph[1]):
        codes.setdefault((_row(op.name).code, op.version, op.custom), len(codes))
    # Buffer 0 is by convention empty and stands for "no data".
    buffers = [_table(b, 3, [])]
    subgraphs = []
    for number, (tensors, ops, inputs, outputs) in enumerate(graphs):
        places = []
        for tensor in tensors:
            places.append(0)
            if tensor.data is not None:
                places[-1] = len(buffers)
                buffers.append(_table(b, 3, [(0, "ref", _data(b, tensor.data), 0)]))
        tensor_tables = [
            _tensor(b, t, at) for t, at in zip(tensors, places, strict=True)
        ]
        op_tables = [
            _op(b, op, codes[_row(op.name).code, op.version, op.custom]) for op in ops
        ]
        subgraphs.append(
            _table(
                b,
                6,
                [
                    (0, "ref", _refs(b, tensor_tables), 0),
                    (1, "ref", _vector(b, "int32", inputs), 0),
                    (2, "ref", _vector(b, "int32", outputs), 0),
                    (3, "ref", _refs(b, op_tables), 0),
                    (4, "ref", b.CreateString(f"sub{number}" if number else "main"), 0),
                ],
            )
        )
    code_tables = [_code(b, *key) for key in codes]
    model = _table(
        b,
        8,
        [
            (0, "uint32", _SCHEMA_VERSION, 0),
            (1, "ref", _refs(b, code_tables), 0),
            (2, "ref", _refs(b, subgraphs), 0),
            (3, "ref", b.CreateString(description), 0),
            (4, "ref", _refs(b, buffers), 0),
        ],
    )
    b.Finish(model, file_identifier=_IDENTIFIER)
    return bytes(b.Output())


@dataclass(frozen=True)
class Layer:
    """One dense int8 layer of `mlp`.

    Parameters
    ----------
    weights : sequence of sequence of int
        Row per output, in [-128, 127]; TFLite expects [-127, 127].
    bias : sequence of int, optional
        int32 values with scale ``input scale * weight scale``; ``None`` leaves it out.
    weight_scales : sequence of float
        One scale, or one per output.
    output_scale, output_zero_point : float, int
        Quantisation of what the layer gives.
    activation : str
        ``"NONE"``, ``"RELU"``, ``"RELU_N1_TO_1"`` or ``"RELU6"``.

    Thread safety
    -------------
    Immutable; may be shared.

    Examples
    --------
    >>> Layer([[1, 2]], [0], [0.5], 0.1, 0).activation
    'NONE'
    """

    weights: Sequence[Sequence[int]]
    bias: Sequence[int] | None
    weight_scales: Sequence[float]
    output_scale: float
    output_zero_point: int
    activation: str = "NONE"


def mlp(
    layers: Sequence[Layer],
    input_scale: float,
    input_zero_point: int,
    *,
    softmax: bool = True,
    description: str = "",
) -> bytes:
    """Write a dense int8 network, one row at a time in, one row out.

    Parameters
    ----------
    layers : sequence of Layer
        At least one; each layer's inputs are the outputs of the one before.
    input_scale, input_zero_point : float, int
        Quantisation of the input row.
    softmax : bool
        End in SOFTMAX, whose output has scale 1/256 and zero point -128, the only
        parameters that TFLite accepts for it.
    description : str
        Free text kept in the file.

    Returns
    -------
    bytes
        The ``.tflite`` file.

    Raises
    ------
    ValueError
        No layer, or rows, biases and scales whose numbers do not fit.

    Thread safety
    -------------
    No shared state; may be called from any thread.

    Examples
    --------
    >>> layer = Layer([[1, 2], [3, 4]], [0, 0], [0.5], 0.1, 0, "RELU")
    >>> mlp([layer], 0.05, 0)[4:8]
    b'TFL3'
    """
    if not layers:
        raise ValueError("mlp: no layers")
    width = len(layers[0].weights[0])
    tensors = [Tensor("input", (1, width), "int8", (input_scale,), (input_zero_point,))]
    ops: list[Op] = []
    last = 0
    for i, layer in enumerate(layers):
        scale_in = tensors[last].scales[0]
        rows = len(layer.weights)
        flat = [w for row in layer.weights for w in row]
        data = struct.pack(f"{len(flat)}b", *flat)
        refs = [last, len(tensors)]
        tensors.append(
            Tensor(f"w{i}", (rows, width), "int8", layer.weight_scales, data=data)
        )
        if layer.bias is None:
            refs.append(-1)
        else:
            refs.append(len(tensors))
            # TFLite compares this with the product of the two float32 scales.
            scales = [_f32(_f32(scale_in) * _f32(s)) for s in layer.weight_scales]
            data = struct.pack(f"<{len(layer.bias)}i", *layer.bias)
            tensors.append(Tensor(f"b{i}", (rows,), "int32", scales, data=data))
        last = len(tensors)
        out = (layer.output_scale,), (layer.output_zero_point,)
        tensors.append(Tensor(f"y{i}", (1, rows), "int8", *out))
        # Version 4 is the first with int8 (lite/tools/versioning/op_version.cc).
        options = {"activation": layer.activation}
        ops.append(Op("FULLY_CONNECTED", refs, (last,), 4, options))
        width = rows
    if softmax:
        tensors.append(Tensor("p", (1, width), "int8", (1 / 256,), (-128,)))
        ops.append(Op("SOFTMAX", (last,), (last + 1,), 2))
        last += 1
    return build(tensors, ops, [0], [last], description=description)


def _f32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _row(name: str) -> _Row:
    if name not in _OPS:
        raise ValueError(f"unknown operator {name!r}")
    return _OPS[name]


def _check(
    tensors: Sequence[Tensor],
    ops: Sequence[Op],
    inputs: Sequence[int],
    outputs: Sequence[int],
) -> None:
    for i, tensor in enumerate(tensors):
        where = f"tensor {i} {tensor.name!r}"
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{where}: unknown data type {tensor.dtype!r}")
        size = math.prod(tensor.shape) * DTYPES[tensor.dtype][1]
        if tensor.data is not None and len(tensor.data) != size:
            raise ValueError(f"{where}: {len(tensor.data)} bytes, {size} expected")
        scales = len(tensor.scales)
        if len(tensor.zero_points) not in (0, scales):
            raise ValueError(f"{where}: as many zero points as scales expected")
        if scales > 1 and (
            not 0 <= tensor.quantized_dimension < len(tensor.shape)
            or scales != tensor.shape[tensor.quantized_dimension]
        ):
            raise ValueError(f"{where}: scales do not fit quantized_dimension")
    known = range(len(tensors))
    if any(i not in known for i in (*inputs, *outputs)):
        raise ValueError("graph inputs or outputs: tensor index out of range")
    for i, op in enumerate(ops):
        named = (*op.inputs, *op.outputs, *op.intermediates)
        if any(t != -1 and t not in known for t in named):
            raise ValueError(f"op[{i}] {op.name}: tensor index out of range")


_FORMATS = {"int32": "i", "int64": "q", "float32": "f"}


def _vector(b: Any, kind: str, values: Sequence[float]) -> int:
    width = 8 if kind == "int64" else 4
    raw = struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)
    b.StartVector(width, len(values), width)
    b.head -= len(raw)
    b.Bytes[b.head : b.head + len(raw)] = raw
    return int(b.EndVector())


def _refs(b: Any, tables: Sequence[int]) -> int:
    b.StartVector(4, len(tables), 4)
    for at in reversed(tables):
        b.PrependUOffsetTRelative(at)
    return int(b.EndVector())


def _data(b: Any, data: bytes) -> int:
    b.Prep(_DATA_ALIGNMENT, len(data))
    return int(b.CreateByteVector(bytes(data)))


_Slot = tuple[int, str, float, float]


def _table(b: Any, slots: int, values: Sequence[_Slot]) -> int:
    """Write one table from (slot, kind, value, schema default)."""
    put: dict[str, Callable[[int, Any, Any], None]] = {
        "bool": b.PrependBoolSlot,
        "int8": b.PrependInt8Slot,
        "uint8": b.PrependUint8Slot,
        "int": b.PrependInt32Slot,
        "uint32": b.PrependUint32Slot,
        "float": b.PrependFloat32Slot,
        "ref": b.PrependUOffsetTRelativeSlot,
    }
    b.StartObject(slots)
    for slot, kind, value, default in values:
        put[kind](slot, value, default)
    return int(b.EndObject())


def _tensor(b: Any, tensor: Tensor, buffer: int) -> int:
    quantization: list[_Slot] = []
    if tensor.scales:
        zeros = tensor.zero_points or [0] * len(tensor.scales)
        quantization = [
            (2, "ref", _vector(b, "float32", tensor.scales), 0),
            (3, "ref", _vector(b, "int64", zeros), 0),
            (6, "int", tensor.quantized_dimension, 0),
        ]
    if tensor.dtype not in DTYPES:
        raise ValueError(f"unknown data type {tensor.dtype!r}")
    return _table(
        b,
        9,
        [
            (0, "ref", _vector(b, "int32", tensor.shape), 0),
            (1, "int8", DTYPES[tensor.dtype][0], 0),
            (2, "uint32", buffer, 0),
            (3, "ref", b.CreateString(tensor.name), 0),
            (4, "ref", _table(b, 7, quantization), 0),
            (5, "bool", tensor.is_variable, 0),
            # Without this an empty shape means "rank unknown", not a scalar.
            (8, "bool", True, 0),
        ],
    )


def _code(b: Any, code: int, version: int, custom: str) -> int:
    slots: list[_Slot] = [
        (0, "int8", min(code, _PLACEHOLDER), 0),
        (2, "int", version, 1),
        (3, "int", code, 0),
    ]
    if custom:
        slots.append((1, "ref", b.CreateString(custom), 0))
    return _table(b, 4, slots)


def _op(b: Any, op: Op, opcode: int) -> int:
    row = _row(op.name)
    union = []
    if row.union:
        table = _table(b, len(row.fields), _options(b, op, row))
        union = [(3, "uint8", row.union, 0), (4, "ref", table, 0)]
    elif op.options:
        raise ValueError(f"{op.name} has no options")
    if op.intermediates:
        union.append((8, "ref", _vector(b, "int32", op.intermediates), 0))
    return _table(
        b,
        9,
        [
            (0, "uint32", opcode, 0),
            (1, "ref", _vector(b, "int32", op.inputs), 0),
            (2, "ref", _vector(b, "int32", op.outputs), 0),
            *union,
        ],
    )


def _options(b: Any, op: Op, row: _Row) -> list[_Slot]:
    left = dict(op.options)
    slots: list[_Slot] = []
    for slot, item in enumerate(row.fields):
        if item is None:
            continue
        value = left.pop(item.name, item.preset)
        if value is None:
            continue
        kind = item.kind
        if kind == "ints":
            kind, value = "ref", _vector(b, "int32", value)
        elif kind == "text":
            kind, value = "ref", b.CreateString(value)
        elif kind in _ENUMS:
            names = _ENUMS[kind]
            if isinstance(value, str) and value not in names:
                raise ValueError(f"{op.name} {item.name}: unknown value {value!r}")
            kind, value = "int8", names[value] if isinstance(value, str) else value
        slots.append((slot, kind, value, item.default))
    if left:
        raise ValueError(f"{op.name} has no option {min(left)!r}")
    return slots
