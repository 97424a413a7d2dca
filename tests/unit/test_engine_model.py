# SPDX-License-Identifier: MIT
"""The interface of Model: memory, borders, sources, threads, and what it refuses."""

import gc
import itertools
import math
import random
import struct
import threading
import tracemalloc
from pathlib import Path

import pytest
from helpers.malloc_count import count_mallocs
from helpers.need import need_module
from helpers.reference import (
    manifest,
    model_path,
    need_data,
    need_interpreter,
)

from pymlk import Model, ModelError, Program, Quant, UnsupportedOpError
from pymlk.compile import compile_model
from pymlk.tflite import FallbackNotice
from pymlk.write import Layer, Op, Tensor, build, mlp


def network(widths=(5, 15, 5, 4), seed=1, softmax=True):
    """A random network; its input has scale 0.05 and zero point 3."""
    rng = random.Random(seed)
    layers = []
    for depth, width in itertools.pairwise(widths):
        rows = [[rng.randint(-127, 127) for _ in range(depth)] for _ in range(width)]
        bias = [rng.randint(-500, 500) for _ in range(width)]
        scale = 0.05 * 0.01 * 60 * math.sqrt(depth) / 0.05
        layers.append(Layer(rows, bias, [0.01], scale * 0.05, 0, "NONE"))
    return mlp(layers, 0.05, 3, softmax=softmax)


def address(view):
    """Where the memory of a view begins."""
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def unary(name, first, last, **options):
    """A model of one operator."""
    return build([first, last], [Op(name, (0,), (1,), options=options)], [0], [1])


def int8(name, shape, scale=0.1, zero=0):
    """An int8 tensor."""
    return Tensor(name, shape, "int8", (scale,), (zero,))


MLP = network()


@pytest.fixture
def model():
    """A small network on the engine."""
    return Model(MLP)


def test_what_a_model_tells(model):
    """Shapes, formats, quantisation, cost and operators."""
    assert model.backend == "engine"
    assert (model.input.shape, model.input.format, model.input.ndim) == ((1, 5), "b", 2)
    assert (model.output.shape, model.output.format) == ((1, 4), "b")
    assert model.input.c_contiguous
    assert model.output.c_contiguous
    assert not model.input.readonly
    assert model.inputs == (model.input,)
    assert model.outputs == (model.output,)
    assert model.input_quant == Quant(struct.unpack("f", struct.pack("f", 0.05))[0], 3)
    assert model.output_quant == Quant(1 / 256, -128)
    assert model.input_quants == (model.input_quant,)
    assert model.output_quants == (model.output_quant,)
    assert model.macs == 5 * 15 + 15 * 5 + 5 * 4
    assert model.arena_bytes % 16 == 0
    assert 16 * 3 <= model.arena_bytes <= 128
    assert model.ops == ("FULLY_CONNECTED",) * 3 + ("SOFTMAX",)
    assert repr(model) == "<pymlk.Model engine, 4 operators>"
    assert isinstance(model.program, Program)


def test_attributes_cannot_be_set(model):
    """The loop relies on them."""
    for name in ("input", "output", "inputs", "backend", "program", "macs", "ops"):
        with pytest.raises(AttributeError):
            setattr(model, name, None)


def test_quant():
    """A pair that compares, hashes and unpacks."""
    quant = Quant(0.5, -3)
    scale, zero_point = quant
    assert (scale, zero_point) == (quant.scale, quant.zero_point) == (0.5, -3)
    assert quant == Quant(0.5, -3) == (0.5, -3)
    assert quant != Quant(0.5, 3)
    assert quant != 5
    assert quant is not None
    assert len({quant, Quant(0.5, -3)}) == 1
    assert repr(quant) == "Quant(scale=0.5, zero_point=-3)"


def test_the_input_keeps_its_value(model):
    """Twice the same without touching the input, although layers reuse memory."""
    model.input.cast("B")[:] = bytes([1, 250, 77, 128, 9])
    model.invoke()
    first = bytes(model.output)
    assert bytes(model.input) == bytes([1, 250, 77, 128, 9])
    for _ in range(5):
        model.invoke()
        assert bytes(model.output) == first
    model.input[0, 0] = -100
    model.invoke()
    assert bytes(model.output) != first


def test_memory_never_moves(model):
    """Addresses are aligned and stay, and the properties give the same views."""
    before = address(model.input), address(model.output)
    assert before[0] % 16 == before[1] % 16 == 0
    for _ in range(50):
        model.invoke()
        model.reset()
    gc.collect()
    assert (address(model.input), address(model.output)) == before
    assert model.input is model.input
    assert model.inputs[0] is model.input


def test_a_view_outlives_its_model():
    """Memory lives as long as somebody looks at it."""
    model = Model(MLP)
    model.input[0, 2] = 42
    model.invoke()
    view, output, expected = model.input, model.output, bytes(model.output)
    del model
    gc.collect()
    others = [Model(MLP) for _ in range(20)]
    for other in others:
        other.input.cast("B")[:] = b"\xff" * 5
        other.invoke()
    assert view.tolist() == [[0, 0, 42, 0, 0]]
    assert bytes(output) == expected


def test_models_share_a_program():
    """One verified program, memory of their own."""
    program = Program(compile_model(MLP))
    first, second = Model(program), Model(program)
    assert first.program is second.program is program
    first.input[0, 0] = 5
    assert second.input[0, 0] == 0
    assert address(first.input) != address(second.input)


def test_reset(model):
    """As after loading: all zero."""
    fresh = bytes(model.input), bytes(model.output)
    model.input[0, 1] = 9
    model.invoke()
    model.reset()
    assert (bytes(model.input), bytes(model.output)) == fresh
    assert model.backend == "engine"


def test_numpy_shares_the_memory(model):
    """No copy in either direction."""
    np = need_module("numpy")
    array = np.asarray(model.input)
    assert (array.shape, array.dtype, array.flags.writeable) == ((1, 5), np.int8, True)
    array[0, 3] = -7
    assert model.input[0, 3] == -7
    assert np.shares_memory(array, np.asarray(model.inputs[0]))


def test_sources(tmp_path, model):
    """A path, a PathLike, bytes-like objects, a program, and files of either kind."""
    tflite, program = tmp_path / "m.tflite", tmp_path / "m.mlk"
    tflite.write_bytes(MLP)
    program.write_bytes(compile_model(MLP))
    model.input[0, 0] = 99
    model.invoke()
    sources = [
        str(tflite),
        tflite,
        MLP,
        bytearray(MLP),
        memoryview(MLP),
        program,
        program.read_bytes(),
        bytearray(program.read_bytes()),
        Program(program.read_bytes()),
    ]
    for source in sources:
        other = Model(source, backend="engine")
        other.input[0, 0] = 99
        other.invoke()
        assert bytes(other.output) == bytes(model.output)


def test_a_changed_source_changes_nothing():
    """Bytes that the caller can change are copied."""
    for data in (bytearray(MLP), bytearray(compile_model(MLP))):
        model = Model(data)
        model.invoke()
        expected = bytes(model.output)
        data[:] = bytes(len(data))
        model.invoke()
        assert bytes(model.output) == expected


@pytest.mark.parametrize("wrong", [None, 5, 1.5, ["x"], object()])
def test_no_source(wrong):
    """Neither path nor bytes."""
    with pytest.raises(TypeError):
        Model(wrong)


@pytest.mark.parametrize("backend", ["Engine", "", "litert", None, 1])
def test_wrong_backend(backend):
    """The text names what was found and what is expected."""
    with pytest.raises(
        ValueError, match=r"found, 'auto', 'engine' or 'tflite' exp"
    ) as e:
        Model(MLP, backend=backend)
    assert repr(backend) in str(e.value)


def test_missing_file(tmp_path):
    """The operating system's own error, with the file's name."""
    with pytest.raises(FileNotFoundError) as caught:
        Model(tmp_path / "none.tflite")
    assert caught.value.filename == str(tmp_path / "none.tflite")


def test_a_model_is_made_once(model):
    """A second __init__ would pull the memory from under the views."""
    with pytest.raises(TypeError, match="made once"):
        model.__init__(MLP)
    model.invoke()


def test_an_unmade_model_does_nothing():
    """``__new__`` alone: no crash."""
    model = Model.__new__(Model)
    model.invoke()
    model.reset()
    assert (model.arena_bytes, model.macs) == (0, 0)


def test_directory(tmp_path):
    """A directory is no model."""
    with pytest.raises(ModelError, match="is a directory, expected a model file"):
        Model(tmp_path)


def refused(source, backend="auto"):
    """The text of the ModelError; no other exception may come."""
    with pytest.raises(ModelError) as caught:
        Model(source, backend=backend)
    return str(caught.value)


def test_files_that_are_no_models(tmp_path):
    """The message says what was found, and in which file."""
    path = tmp_path / "x.tflite"
    for content, words in (
        (b"", "0 bytes, too short for a header"),
        (b"\n", "1 bytes, too short"),
        (
            b"#!/bin/sh\necho not a model\n",
            "bytes 4 to 7 are b'in/s', b'TFL3' expected",
        ),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), r"b'\r\n\x1a\n', b'TFL3' expected"),
        (b"\x7fELF" + bytes(100), "no .tflite model: bytes 4 to 7 are"),
        (bytes(1000), "no .tflite model"),
        (b"MLKP", "shorter than its header says (4 bytes)"),
        (b"MLKP" + bytes(500), "another program version"),
    ):
        path.write_bytes(content)
        for backend in ("auto", "engine"):
            text = refused(path, backend)
            assert text.startswith(f"{path}: ")
            assert words in text
        assert refused(content).startswith("model: ")


@pytest.mark.parametrize("backend", ["auto", "engine", "tflite"])
def test_truncated_anywhere(backend):
    """At every length of a small model: ModelError, nothing else."""
    data = network((2, 2), softmax=False)
    Model(data, backend="engine")
    for size in range(len(data)):
        assert refused(data[:size], backend).startswith("model: "), size


def test_program_runs_on_the_engine_alone():
    """The tflite back end has no use for a program."""
    program = compile_model(MLP)
    for source in (program, Program(program)):
        assert "not on tflite" in refused(source, "tflite")


def test_float_only():
    """Named as such, with the tensor that was found and what to do."""
    first, last = Tensor("x", (1, 4), "float32"), Tensor("y", (1, 4), "float32")
    for backend in ("auto", "engine", "tflite"):
        text = refused(unary("LOGISTIC", first, last), backend)
        assert "float-only model" in text
        assert "'x' (FLOAT32 1x4)" in text
        assert "expected int8" in text


def test_integers_without_scales():
    """Not float, but not quantised either."""
    first, last = Tensor("x", (4,), "int32"), Tensor("y", (4,), "int32")
    assert "no quantised tensor found" in refused(unary("ABS", first, last))


def patched(data, old, new):
    """A file with one place changed."""
    assert data.count(old) == 1
    return data.replace(old, new)


def test_from_the_future():
    """A later schema, identifier or operator is named."""
    text = refused(patched(MLP, b"TFL3", b"TFL4"))
    assert "b'TFL4' found, b'TFL3' expected" in text
    assert "another version of TFLite" in text

    # the version is the model table's first field: 3, which the file has as u32
    at = struct.unpack_from("<I", MLP)[0]
    table = at - struct.unpack_from("<i", MLP, at)[0]
    field = at + struct.unpack_from("<H", MLP, table + 4)[0]
    data = bytearray(MLP)
    assert struct.unpack_from("<I", data, field) == (3,)
    for version in (4, 77):
        struct.pack_into("<I", data, field, version)
        text = refused(bytes(data))
        assert f"schema version {version} found, version 3 expected" in text
        assert "from the future" in text
    struct.pack_into("<I", data, field, 2)
    assert "schema version 2 found" in refused(bytes(data))


def test_unknown_operator():
    """Operator 250 exists in no schema that this version knows."""
    import pymlk.write as write

    rows = dict(write._OPS)
    rows["FUTURE"] = write._Row(250)
    original, write._OPS = write._OPS, rows
    try:
        data = unary("FUTURE", int8("x", (1, 4)), int8("y", (1, 4)))
    finally:
        write._OPS = original
    with pytest.raises(UnsupportedOpError) as caught:
        Model(data, backend="engine")
    assert "op[0] operator 250 (unknown: from a newer TFLite?)" in str(caught.value)
    assert len(caught.value.operators) == 1


def test_all_missing_operators_are_named():
    """One error for all of them, each with its place."""
    tensors = [int8(str(i), (1, 4)) for i in range(4)]
    ops = [Op("FLOOR", (0,), (1,)), Op("RELU", (1,), (2,)), Op("LOG", (2,), (3,))]
    with pytest.raises(UnsupportedOpError) as caught:
        Model(build(tensors, ops, [0], [3]), backend="engine")
    first, second = caught.value.operators
    assert first.startswith("op[0] FLOOR")
    assert second.startswith("op[2] LOG")
    assert "RELU" not in str(caught.value)
    assert isinstance(caught.value, NotImplementedError)
    assert isinstance(caught.value, ValueError)


# One of them only moves bytes, which the engine can.
OLD = [
    e
    for e in manifest("models")
    if e["cls"] == "uint8-legacy" and e["name"] != "coral__split_concat"
]


def test_the_data_are_there():
    """Without them the next test is none at all."""
    need_data()
    assert len(OLD) == 7


@pytest.mark.parametrize("entry", OLD, ids=lambda e: e["name"])
def test_uint8_of_2018(entry):
    """Named on the engine; through tflite otherwise."""
    path = model_path("models", entry)
    with pytest.raises(UnsupportedOpError) as caught:
        Model(path, backend="engine")
    assert str(path) in str(caught.value)
    names = {name.split(":")[0] for name in entry["ops"]}
    assert any(name in str(caught.value) for name in names)
    need_interpreter()
    with pytest.warns(FallbackNotice, match="|".join(names)):
        model = Model(path)
    assert model.backend == "tflite"
    model.invoke()


def test_auto_without_any_interpreter(monkeypatch):
    """Where the extra is not installed the error says how to get it."""
    import sys

    monkeypatch.setitem(sys.modules, "tflite_runtime", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    data = unary("FLOOR", int8("x", (1, 4)), int8("y", (1, 4)))
    with pytest.warns(FallbackNotice, match=r"op\[0\] FLOOR"):
        text = refused(data)
    assert "pip install 'pymlk[tflite]'" in text


def test_tflite_backend_has_the_same_face():
    """Views, quantisation, stability, reset: as on the engine."""
    need_interpreter()
    ours, other = Model(MLP, backend="engine"), Model(MLP, backend="tflite")
    assert other.backend == "tflite"
    for name in ("input_quant", "output_quant", "input_quants", "output_quants", "ops"):
        assert getattr(other, name) == getattr(ours, name), name
    for mine, theirs in zip(
        (*ours.inputs, *ours.outputs), (*other.inputs, *other.outputs), strict=True
    ):
        assert (mine.shape, mine.format) == (theirs.shape, theirs.format)
    assert (other.arena_bytes, other.macs, other.program) == (0, 0, None)
    assert repr(other) == "<pymlk.Model tflite, 4 operators>"
    before = address(other.input), address(other.output)
    other.input[0, 0] = 60
    other.invoke()
    first = bytes(other.output)
    other.invoke()
    assert bytes(other.output) == first
    assert (address(other.input), address(other.output)) == before
    other.reset()
    assert not any(bytes(other.input))
    with pytest.raises(TypeError, match="made once"):
        other.__init__(MLP)


def border(first, last):
    """FLOAT32 -> int8 -> LOGISTIC -> int8 -> FLOAT32, or one side of it."""
    tensors = [int8("q", (2, 3), 0.1, 5), int8("p", (2, 3), 1 / 256, -128)]
    ops, inputs, outputs = [Op("LOGISTIC", (0,), (1,))], [0], [1]
    if first:
        inputs = [len(tensors)]
        tensors.append(Tensor("x", (2, 3), "float32"))
        ops.insert(0, Op("QUANTIZE", inputs, (0,)))
    if last:
        outputs = [len(tensors)]
        tensors.append(Tensor("y", (2, 3), "float32"))
        ops.append(Op("DEQUANTIZE", (1,), outputs))
    return build(tensors, ops, inputs, outputs)


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 0), (0, 1)])
def test_float_borders(first, last):
    """Float where the model's own border is float, int8 where it is not."""
    model = Model(border(first, last), backend="engine")
    assert model.input.format == ("f" if first else "b")
    assert model.output.format == ("f" if last else "b")
    assert model.input.shape == model.output.shape == (2, 3)
    assert model.ops == ("LOGISTIC",)
    # what a float border's quantisation is says the int8 tensor behind it
    assert tuple(model.input_quant) == (pytest.approx(0.1), 5)
    assert model.output_quant == Quant(1 / 256, -128)
    model.input[0, 0] = 4.0 if first else 45
    model.invoke()
    value = model.output[0, 0] if last else (model.output[0, 0] + 128) / 256
    assert value == pytest.approx(1 / (1 + math.exp(-4)), abs=1 / 256)
    assert model.input[0, 0] == (4.0 if first else 45)
    model.reset()
    assert model.input[0, 0] == 0
    assert model.output[0, 0] == 0


def test_float_border_beyond_the_range():
    """Saturates; what C leaves undefined for NaN is the lowest value here."""
    data = unary("QUANTIZE", Tensor("x", (6,), "float32"), int8("y", (6,), 0.5, -3))
    model = Model(data, backend="engine")
    values = (math.inf, -math.inf, math.nan, 3e38, -3e38, 1e-45)
    for i, value in enumerate(values):
        model.input[i] = value
    model.invoke()
    assert model.output.tolist() == [127, -128, -128, 127, -128, -3]


def test_uint8_borders():
    """The uint8 in and out of old converters, with int8 inside."""
    tensors = [
        Tensor("x", (1, 4), "uint8", (0.1,), (128,)),
        int8("q", (1, 4), 0.1, 0),
        int8("p", (1, 4), 0.2, 0),
        Tensor("y", (1, 4), "uint8", (0.2,), (128,)),
    ]
    ops = [
        Op("QUANTIZE", (0,), (1,)),
        Op("RELU", (1,), (2,)),
        Op("QUANTIZE", (2,), (3,)),
    ]
    model = Model(build(tensors, ops, [0], [3]), backend="engine")
    assert (model.input.format, model.output.format) == ("B", "B")
    assert model.input_quant.zero_point == model.output_quant.zero_point == 128
    model.input.cast("B")[:] = bytes([0, 128, 148, 255])
    model.invoke()
    assert bytes(model.output) == bytes([128, 128, 138, 192])


def test_one_tensor_in_two_roles():
    """Input and output at once, or two outputs: each has memory of its own."""
    tensors = [int8("x", (1, 4)), int8("y", (1, 4), 1 / 128)]
    data = build(tensors, [Op("TANH", (0,), (1,))], [0], [1, 0, 1])
    model = Model(data, backend="engine")
    assert model.ops == ("TANH", "COPY", "COPY")
    assert len({address(v) for v in (*model.inputs, *model.outputs)}) == 4
    model.input.cast("B")[:] = bytes([1, 2, 3, 250])
    model.invoke()
    once, same, twice = map(bytes, model.outputs)
    assert same == bytes([1, 2, 3, 250])
    assert once == twice != same
    # writing an output never changes an input
    model.outputs[1].cast("B")[:] = bytes(4)
    assert bytes(model.input) == bytes([1, 2, 3, 250])


def test_a_reshape_at_both_borders():
    """Costs no operator; each side has its own shape."""
    tensors = [int8("x", (2, 3)), int8("y", (6, 1))]
    model = Model(build(tensors, [Op("RESHAPE", (0,), (1,))], [0], [1]))
    assert (model.input.shape, model.output.shape) == ((2, 3), (6, 1))
    model.input[1, 2] = 7
    model.invoke()
    assert model.output[5, 0] == 7


def test_several_inputs():
    """Each input has its place, dtype and quantisation."""
    tensors = [
        int8("a", (1, 4), 0.1, 1),
        int8("b", (3,), 0.2, 2),
        int8("c", (1, 4), 0.1),
        int8("d", (3,), 0.2),
    ]
    ops = [Op("RELU", (0,), (2,)), Op("RELU6", (1,), (3,))]
    model = Model(build(tensors, ops, [1, 0], [2, 3]), backend="engine")
    assert [v.shape for v in model.inputs] == [(3,), (1, 4)]
    assert [v.shape for v in model.outputs] == [(1, 4), (3,)]
    assert [q.zero_point for q in model.input_quants] == [2, 1]
    model.inputs[1][0, 0] = 21
    model.invoke()
    assert model.output[0, 0] == 20
    assert model.outputs[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            build([int8("x", (4,))], [], [0], [0]),
            None,
        ),
        (
            build(
                [int8("x", (4,)), Tensor("k", (4,), "int8", (1.0,), (0,), 0, b"abcd")],
                [],
                [0],
                [1],
            ),
            "constant at the model's border",
        ),
        (
            build(
                [int8("x", (4,)), Tensor("k", (4,), "int8", (1.0,), (0,), 0, b"abcd")],
                [],
                [1],
                [0],
            ),
            "never computed",
        ),
        (
            build(
                [
                    int8("x", (1, 4)),
                    Tensor("v", (1, 4), "int8", (1.0,), (0,), is_variable=True),
                    int8("y", (1, 4)),
                ],
                [Op("RELU", (1,), (2,))],
                [0],
                [2],
            ),
            "is a variable",
        ),
        (
            build([int8("x", (1,) * 7)], [], [0], [0]),
            "more than 6 dimensions",
        ),
        (
            build([Tensor("x", (4,), "int8"), int8("y", (4,))], [], [0], [0]),
            "no quantised tensor|scales",
        ),
        (
            build(
                [int8("x", (4,)), Tensor("y", (2, 2), "int8")],
                [Op("RESHAPE", (0,), (1,))],
                [0],
                [1],
            ),
            "has 0 scales",
        ),
        (
            build(
                [int8("x", (2**16, 2**14))],
                [],
                [0],
                [0],
            ),
            "more than 268435456 bytes",
        ),
        (
            build([int8("x", (2**28 - 16,)), int8("y", (2**28 - 16,))], [], [0], [0]),
            "bytes of arena",
        ),
        (
            build([int8("x", (4,)), int8("y", (0,))], [], [0], [1]),
            "no elements",
        ),
    ],
)
def test_graphs_at_the_edge(data, words):
    """Odd graphs are run rightly or refused with a reason, never run wrongly."""
    if words is None:
        model = Model(data)
        model.input[1] = 3
        model.invoke()
        assert bytes(model.output) == bytes([0, 3, 0, 0])
        return
    with pytest.raises(ModelError, match=words):
        Model(data, backend="engine")


def test_no_allocation_per_inference():
    """Neither malloc nor a Python object: small and large networks, float borders."""
    setup = f"""
import struct, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pymlk import Model
model = Model(bytes.fromhex({{data!r}}), backend="engine")
assert model.backend == "engine"
"""
    large = network((64, 256, 128))
    for data in (MLP, large, border(True, True)):
        source = setup.format(data=data.hex())
        assert count_mallocs(source, "model.invoke()", 2000) == 0
    # the counter does count
    assert count_mallocs(setup.format(data=MLP.hex()), "bytes(100)", 50) >= 50


def test_tracemalloc_sees_nothing(model):
    """The same from Python's side."""
    invoke = model.invoke
    for _ in range(10):
        invoke()
    tracemalloc.start()
    try:
        invoke()
        before = tracemalloc.take_snapshot()
        for _ in range(1000):
            invoke()
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    here = (tracemalloc.Filter(True, "*engine*"),)
    grown = [
        s
        for s in after.filter_traces(here).compare_to(
            before.filter_traces(here), "lineno"
        )
        if s.size_diff > 0
    ]
    assert [s for s in grown if "test_engine_model" not in str(s.traceback)] == []


def test_no_leak():
    """Making and dropping models leaves no references behind."""
    import sys

    program = Program(compile_model(MLP))
    count = sys.getrefcount(program)
    for _ in range(100):
        model = Model(program)
        assert model.input[0, 0] == 0
    del model
    gc.collect()
    assert sys.getrefcount(program) == count
    for _ in range(20):
        with pytest.raises(ModelError):
            Model(MLP[:-100])


def _in_threads(work, count):
    failures = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert failures == []


@pytest.mark.parametrize("widths", [(5, 15, 4), (64, 400, 64)])
def test_a_model_for_each_thread(widths):
    """Sharing a program, each with memory of its own; large ones without the GIL."""
    program = Program(compile_model(network(widths)))
    reference = Model(program)
    expected = []
    for value in range(2):
        reference.input.cast("B")[:] = bytes([value * 50]) * widths[0]
        reference.invoke()
        expected.append(bytes(reference.output))
    assert expected[0] != expected[1]

    def work(number):
        model = Model(program)
        model.input.cast("B")[:] = bytes([number * 50]) * widths[0]
        for _ in range(300):
            model.invoke()
            assert bytes(model.output) == expected[number]

    _in_threads(work, 2)


def test_one_model_for_all_threads():
    """Calls are serialised: the intermediate layers never mix."""
    model = Model(network((64, 400, 64)))
    assert model.macs > 20000
    model.input.cast("B")[:] = bytes(range(64))
    model.invoke()
    expected = bytes(model.output)

    def work(_):
        for _ in range(200):
            model.invoke()

    _in_threads(work, 4)
    assert bytes(model.output) == expected


def test_reset_beside_invoke():
    """Serialised, too: the input is zero or what it was, and nothing crashes."""
    model = Model(network((64, 400, 64)))
    model.invoke()
    zero = bytes(model.output)

    def work(number):
        for _ in range(200):
            if number:
                model.reset()
            else:
                model.invoke()

    _in_threads(work, 2)
    model.reset()
    model.invoke()
    assert bytes(model.output) == zero


def test_one_tflite_model_for_all_threads():
    """The interpreter gives up the GIL, so its calls are serialised as well."""
    need_interpreter()
    model = Model(network((64, 400, 64)), backend="tflite")
    model.input.cast("B")[:] = bytes(range(64))
    model.invoke()
    expected = bytes(model.output)

    def work(_):
        for _ in range(100):
            model.invoke()

    _in_threads(work, 4)
    assert bytes(model.output) == expected
