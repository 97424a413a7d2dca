# SPDX-License-Identifier: MIT
"""Hostile ``.tflite`` files: a ModelError or a program, soon, and nothing else."""

import os
import random
import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pymlk import ModelError, UnsupportedOpError
from pymlk.compile import compile_model, read_graph
from pymlk.write import Op, Tensor, build


def _load(name):
    import importlib.util
    from pathlib import Path

    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check = _load("fuzz_schema").check
MODELS = _load("make_corpus").models()
FACTOR = int(os.environ.get("PYMLK_EXAMPLES", "0"))

# What offsets, lengths, dimensions and numbers are made of.
WORDS = (0, 1, 2, 3, 4, 5, 7, 8, 16, 127, 128, 255, 256, 4095, 4096, 32768, 65535)
WORDS += tuple(2**k + d for k in (16, 24, 28, 30, 31) for d in (-1, 0, 1))
WORDS += (2**32 - 1, 2**32 - 4, 2**32 - 16)
FLOATS = (0.0, -1.0, 1e-45, 1e-38, 1e-10, 1e10, 3e38)
FLOATS += (float("inf"), float("-inf"), float("nan"))
WORDS += tuple(struct.unpack("<I", struct.pack("<f", x))[0] for x in FLOATS)


def examples(count):
    """Settings of one test."""
    return settings(
        max_examples=count * max(FACTOR, 1),
        derandomize=not FACTOR,
        deadline=2000,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )


models = st.sampled_from(sorted(MODELS)).map(MODELS.__getitem__)


@examples(1500)
@given(models, st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1))
def test_bytes(data, changes):
    """Single bytes anywhere."""
    damaged = bytearray(data)
    for at, value in changes:
        damaged[at % len(data)] = value
    check(bytes(damaged))


@examples(2500)
@given(
    models,
    st.lists(st.tuples(st.integers(0), st.sampled_from(WORDS)), min_size=1, max_size=4),
)
def test_words(data, changes):
    """Aligned words set to values at limits: offsets, lengths, dimensions, scales."""
    damaged = bytearray(data)
    for at, value in changes:
        struct.pack_into("<I", damaged, at % (len(data) // 4) * 4, value)
    check(bytes(damaged))


@examples(400)
@given(models, st.integers(0), st.integers(0), st.integers(1, 64))
def test_pieces(data, here, there, size):
    """A piece of the file in another place: tables as vectors, cycles of offsets."""
    damaged = bytearray(data)
    here, there = here % len(data), there % len(data)
    damaged[there : there + size] = damaged[here : here + size]
    check(bytes(damaged))


@examples(300)
@given(st.binary(max_size=200))
def test_noise(tail):
    """Bytes behind a good identifier."""
    for root in (4, 8, 16, len(tail), 2**31):
        check(struct.pack("<I4s", root, b"TFL3") + tail)


@pytest.mark.parametrize("name", MODELS)
def test_every_word_at_the_limits(name):
    """Each word of a small model, with each value that a limit is made of."""
    data = MODELS[name]
    if len(data) > 1000:
        data, words = MODELS[name], (0, 2**31, 2**32 - 1)
    else:
        words = WORDS[::5]
    seen = set()
    for at in range(0, len(data) - 3, 4):
        for value in words:
            damaged = bytearray(data)
            struct.pack_into("<I", damaged, at, value)
            seen.add(check(bytes(damaged)))
    assert seen == {"ran", "refused"}


def within(seconds, data, match):
    """Refused, for that reason, in bounded time."""
    start = time.process_time()
    with pytest.raises(ModelError, match=match):
        compile_model(data)
    assert time.process_time() - start < seconds


def s8(name, shape, **more):
    """An int8 tensor."""
    return Tensor(name, shape, "int8", (0.1,), (0,), **more)


def vectors_at(data, index):
    """Positions at which slot `index` of any of the model's tensors has its offset."""
    root = struct.unpack_from("<I", data)[0]

    def slot(table, number):
        vtable = table - struct.unpack_from("<i", data, table)[0]
        return table + struct.unpack_from("<H", data, vtable + 4 + 2 * number)[0]

    def follow(at):
        return at + struct.unpack_from("<I", data, at)[0]

    subgraph = follow(follow(slot(root, 2)) + 4)
    vector = follow(slot(subgraph, 0))
    count = struct.unpack_from("<I", data, vector)[0]
    return [slot(follow(vector + 4 + 4 * i), index) for i in range(count)], follow


def test_lengths_of_four_gigabytes():
    """A vector's length is compared with the file before anything is read."""
    data = bytearray(MODELS["mlp"])
    places, follow = vectors_at(data, 0)
    for length in (2**32 - 1, 2**31, 2**30, len(data)):
        damaged = bytearray(data)
        struct.pack_into("<I", damaged, follow(places[0]), length)
        within(0.5, bytes(damaged), "does not fit|damaged")


@pytest.mark.parametrize("slot", [0, 3])
def test_one_long_vector_named_by_many_tables(slot):
    """Otherwise a file of 1 MB would make a reader copy 4 GB."""
    tensors = [s8(f"{i}", (1,)) for i in range(4000)]
    data = bytearray(build(tensors, [], [0], [0]))
    places, _ = vectors_at(data, slot)
    long = len(data)
    data += struct.pack("<I", 1 << 20) + b"\x01" * (1 << 20)
    data += bytes(4 << 20 if slot == 0 else 0)
    for at in places:
        struct.pack_into("<I", data, at, long - at)
    within(10, bytes(data), "named too often|dimensions")


def test_many_dimensions():
    """A shape is no place for a million numbers."""
    data = build([s8("x", (1,) * 17)], [], [0], [0])
    within(0.5, data, "17 dimensions, at most 16")
    data = build([s8("x", (2**31 - 1,) * 16)], [], [0], [0])
    within(0.5, data, "more than 6 dimensions")


def test_too_many_tensors_and_operators():
    """Counts are limited before tables are read."""
    data = build([s8(f"{i}", (1,)) for i in range(4097)], [], [0], [0])
    within(5, data, "4097 tensors; at most 4096")
    ops = [Op("RELU", (0,), (1,))] * 4097
    data = build([s8("x", (1,)), s8("y", (1,))], ops, [0], [1])
    within(5, data, "4097 operators; at most 4096")


def chain(name, count):
    """A model of one operator after the other."""
    tensors = [s8(f"{i}", (1, 1)) for i in range(count + 1)]
    ops = [Op(name, (i,), (i + 1,)) for i in range(count)]
    return build(tensors, ops, [0], [count])


def test_long_chains():
    """The largest models that are taken compile in seconds."""
    for name in ("RESHAPE", "RELU"):
        start = time.process_time()
        assert check(chain(name, 4000)) == "ran"
        assert time.process_time() - start < 15, name


def test_cycles():
    """An operator that feeds itself, or two that feed each other."""
    tensors = [s8(f"{i}", (1, 1)) for i in range(4)]
    for name in ("RESHAPE", "RELU"):
        loop = [Op(name, (1,), (1,))]
        within(1, build(tensors, loop, [0], [1]), "which nothing has computed")
        loop = [Op(name, (2,), (1,)), Op(name, (1,), (2,))]
        within(1, build(tensors, loop, [0], [1]), "which nothing has computed")
        twice = [Op(name, (0,), (1,)), Op(name, (0,), (1,))]
        within(1, build(tensors, twice, [0], [1]), "computed already")
        itself = [Op(name, (0,), (0,))]
        within(1, build(tensors, itself, [0], [0]), "is an input")


def test_many_roles_for_one_tensor():
    """A copy for each further role, up to a limit."""
    tensors = [s8("x", (1, 1)), s8("y", (1, 1))]
    op = [Op("RELU", (0,), (1,))]
    assert check(build(tensors, op, [0], [1] * 100)) == "ran"
    within(10, build(tensors, op, [0], [1] * 100_000), "more than 4096")
    within(1, build(tensors, op, [0, 0], [1]), "named twice among the inputs")


def test_weights_shared_by_many_operators():
    """Time is bounded by the work, not by the size of the file."""
    side = 1024
    weights = s8("w", (side, side), data=bytes(side * side))
    tensors = [weights] + [s8(f"{i}", (1, side)) for i in range(2001)]
    ops = [
        Op("FULLY_CONNECTED", (i + 1, 0, -1), (i + 2,), options={}) for i in range(2000)
    ]
    within(30, build(tensors, ops, [1], [2001]), "bytes of weights in all")


def test_indices_out_of_range():
    """Tensors, buffers and operator codes that do not exist."""
    x, y = s8("x", (1, 1)), s8("y", (1, 1))
    for bad in (2, 99, 2**31 - 1, -2, -(2**31)):
        for inputs, outputs in (((bad,), (1,)), ((0,), (bad,))):
            data = build([x, y], [Op("RELU", inputs, outputs)], [0], [1], check=False)
            within(1, data, f"names tensor {bad} of 2")
        within(1, build([x, y], [], [bad], [0], check=False), f"names tensor {bad}")
        within(1, build([x, y], [], [0], [bad], check=False), f"names tensor {bad}")
    within(1, build([x, y], [Op("RELU", (0,), (-1,))], [0], [1]), "output is missing")
    within(1, build([x, y], [Op("RELU", (), (1,))], [0], [1]), "input 0 is missing")
    within(1, build([x, y], [Op("RELU", (-1,), (1,))], [0], [1]), "input 0 is missing")
    within(1, build([x, y], [Op("RELU", (0,), ())], [0], [0]), "0 outputs, expected 1")
    within(1, build([x, y], [], [], [0]), "0 inputs and 1 outputs")
    within(1, build([x, y], [], [0], []), "1 inputs and 0 outputs")


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["x", "w", "y"])
def test_senseless_scales(name, scale):
    """Zero, negative and infinite scales are refused wherever they stand."""
    tensors = [
        Tensor("x", (1, 2), "int8", (scale if name == "x" else 0.1,), (0,)),
        Tensor("w", (1, 2), "int8", (scale if name == "w" else 0.1,), (0,), 0, b"ab"),
        Tensor("y", (1, 1), "int8", (scale if name == "y" else 0.1,), (0,)),
    ]
    op = Op("FULLY_CONNECTED", (0, 1, -1), (2,))
    within(1, build(tensors, [op], [0], [2]), "scale")


def test_extreme_scales_end_in_an_error_or_a_program():
    """No arithmetic error of Python's gets out, whatever the scales."""
    rng = random.Random(9)
    extremes = (1e-45, 1e-38, 1e-20, 1e-10, 1.0, 1e10, 1e20, 3e38)
    seen = {"ran": 0, "refused": 0}
    names = ("RELU", "RELU6", "RELU_N1_TO_1", "LOGISTIC", "TANH", "QUANTIZE", "SOFTMAX")
    for _ in range(300):
        tensors = [
            Tensor(
                n, (1, 4), "int8", (rng.choice(extremes),), (rng.randint(-128, 127),)
            )
            for n in "xy"
        ]
        op = Op(rng.choice(names), (0,), (1,))
        seen[check(build(tensors, [op], [0], [1]))] += 1
    assert min(seen.values()) > 50


def test_sizes_beyond_the_file_format():
    """Shapes whose product does not fit 32 or 64 bits."""
    for shape in ((2**31 - 1,), (2**31 - 1,) * 2, (2**31 - 1,) * 6):
        data = build([s8("x", shape)], [], [0], [0])
        with pytest.raises(UnsupportedOpError, match="more than 268435456 bytes"):
            compile_model(data)


def test_wrong_kinds_of_data():
    """Lengths of constants are those of their shapes."""
    x, y = s8("x", (1, 2)), s8("y", (1, 1))
    op = Op("FULLY_CONNECTED", (0, 2, -1), (1,))
    short = s8("w", (1, 2), data=b"a")
    data = build([x, y, short], [op], [0], [1], check=False)
    within(1, data, "has 1 bytes of data, expected 2")
    assert read_graph(MODELS["mlp"]).inputs == (0,)
