# SPDX-License-Identifier: MIT
"""The head of a program: what is read is what runs, what is written too."""

import itertools
import math
import random
import struct
from array import array
from collections.abc import Callable
from dataclasses import replace

import pytest
from helpers.bandit import logits
from helpers.models import network

from pymlk import Model, ModelError, Program
from pymlk.compile import arith, compile_model
from pymlk.head import Head, _multiplier, read_head, replace_head
from pymlk.learn import Learner
from pymlk.write import Layer, Op, Tensor, build, mlp

ROWS = 200


def random_layers(rng: random.Random, per_channel: bool) -> list[Layer]:
    """Two layers; the second one has negative and large biases."""
    widths = [rng.randint(1, 40), rng.randint(1, 40), rng.randint(2, 20)]
    layers = []
    for depth, width in itertools.pairwise(widths):
        rows = [[rng.randint(-127, 127) for _ in range(depth)] for _ in range(width)]
        bias = [rng.randint(-3000, 3000) for _ in range(width)]
        count = width if per_channel else 1
        scales = [rng.uniform(0.002, 0.02) for _ in range(count)]
        layers.append(
            Layer(rows, bias, scales, 0.02 * math.sqrt(depth), rng.randint(-20, 20))
        )
    return layers


def answers(program: bytes, rng: random.Random) -> list[bytes]:
    """Outputs for some random inputs."""
    model = Model(Program(program))
    found = []
    for _ in range(ROWS):
        model.input.cast("B")[:] = rng.randbytes(model.input.nbytes)
        model.invoke()
        found.append(bytes(model.output))
    return found


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_its_own_weights_change_nothing(
    seed: int, softmax: bool, per_channel: bool
) -> None:
    layers = random_layers(random.Random(seed), per_channel)
    program = compile_model(mlp(layers, 0.05, 7, softmax=softmax))
    head = read_head(program)
    assert replace_head(program, head.weights, head.bias) == program


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_reads_what_was_written(seed: int, per_channel: bool) -> None:
    """The real weights, biases and quantisations of the file."""
    layers = random_layers(random.Random(seed), per_channel)
    last, source = layers[-1], layers[-2]
    head = read_head(compile_model(mlp(layers, 0.05, 7)))
    width, depth = len(last.weights), len(last.weights[0])
    assert (head.actions, head.features) == (width, depth)
    assert head.in_scale == pytest.approx(source.output_scale, rel=1e-6)
    assert (head.in_zero, head.out_zero) == (
        source.output_zero_point,
        last.output_zero_point,
    )
    scales = list(last.weight_scales) * (1 if per_channel else width)
    for i in range(width):
        row = head.weights[i * depth : (i + 1) * depth]
        expected = [w * scales[i] for w in last.weights[i]]
        assert list(row) == pytest.approx(expected, rel=1e-5)
        assert last.bias is not None
        assert head.bias[i] == pytest.approx(
            last.bias[i] * scales[i] * source.output_scale, rel=1e-5
        )


def written_anew(layers: list[Layer], head: Head, new: Head) -> bytes:
    """The same model with the new head by another way: a file, and the compiler."""
    source = layers[-2]
    rows, bias, scales = [], [], []
    for i in range(head.actions):
        real = new.weights[i * head.features : (i + 1) * head.features]
        # the documented rule: the largest weight is 127
        scale = arith.f32(max(map(abs, real)) / 127)
        rows.append([round(w / scale) for w in real])
        bias.append(round(new.bias[i] / (arith.f32(source.output_scale) * scale)))
        scales.append(scale)
    last = replace(layers[-1], weights=rows, bias=bias, weight_scales=scales)
    return compile_model(mlp([*layers[:-1], last], 0.05, 7))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_equals_the_compiler(seed: int, per_channel: bool) -> None:
    """New weights by this way and by a new .tflite: the same outputs, byte for byte."""
    rng = random.Random(seed)
    layers = random_layers(rng, per_channel)
    program = compile_model(mlp(layers, 0.05, 7))
    head, new = read_head(program), read_head(program)
    new.weights = array("f", [rng.gauss(0, 0.7) for _ in head.weights])
    new.bias = array("f", [rng.gauss(0, 2) for _ in head.bias])
    ours = replace_head(program, new.weights, new.bias)
    theirs = written_anew(layers, head, new)
    assert answers(ours, random.Random(seed)) == answers(theirs, random.Random(seed))
    assert answers(ours, random.Random(seed)) != answers(program, random.Random(seed))
    again = read_head(ours)
    step = max(map(abs, new.weights)) / 127
    assert list(again.weights) == pytest.approx(list(new.weights), abs=0.51 * step)


@pytest.mark.parametrize("width", [1, 3, 5, 16, 17, 60])
def test_only_changed_rows_are_quantised_anew(width: int) -> None:
    program = compile_model(network((5, 19, width + 1), softmax=False))
    head = read_head(program)
    head.bias[width] += 1.0
    rows = [answers(p, random.Random(1)) for p in (
        program, replace_head(program, head.weights, head.bias)
    )]  # fmt: skip
    pairs = list(zip(*rows, strict=True))
    assert all(a[:width] == b[:width] for a, b in pairs)
    assert any(a[width] != b[width] for a, b in pairs)


def test_arrays_of_other_layers_stay() -> None:
    """Equal arrays are stored once; a new head must not change another layer's."""
    row = [[3, -5, 7, 1] for _ in range(4)]
    layer = Layer(row, [0, 0, 0, 0], [0.01], 0.05, 0)
    program = compile_model(mlp([layer, layer], 0.05, 0, softmax=False))
    head = read_head(program)
    new = array("f", [-w for w in head.weights])
    back = replace_head(replace_head(program, new, head.bias), head.weights, head.bias)
    assert answers(back, random.Random(2)) == answers(program, random.Random(2))


def test_the_first_one_starts_anew_each_time() -> None:
    """No growth as long as each version is made from the shipped program."""
    program = compile_model(network())
    head = read_head(program)
    sizes = set()
    for i in range(5):
        head.bias[0] += 0.25 + i
        sizes.add(len(replace_head(program, head.weights, head.bias)))
    assert len(sizes) == 1
    assert max(sizes) - len(program) < 2048


def test_vanishing_and_huge_weights() -> None:
    """Zeros, tiny and large rows: a program that runs, or a refusal."""
    program = compile_model(network((5, 6, 3), softmax=False))
    head = read_head(program)
    zeros = array("f", bytes(4 * len(head.weights)))
    bias = array("f", [1.0, -1.0, 0.5])
    found = read_head(replace_head(program, zeros, bias))
    assert list(found.weights) == [0.0] * len(zeros)
    assert list(found.bias) == pytest.approx(list(bias), rel=1e-3)
    tiny = array("f", [1e-38] * len(zeros))
    assert answers(replace_head(program, tiny, bias), random.Random(3))
    with pytest.raises(ModelError, match="beyond int32"):
        replace_head(program, array("f", [1e30] * len(zeros)), bias)
    for bad in (math.nan, math.inf, -math.inf):
        zeros[1] = bad
        with pytest.raises(ModelError, match="not finite"):
            replace_head(program, zeros, bias)


def test_wrong_numbers_of_weights() -> None:
    program = compile_model(network())
    head = read_head(program)
    with pytest.raises(ValueError, match="expected"):
        replace_head(program, head.weights[:-1], head.bias)
    with pytest.raises(ValueError, match="expected"):
        replace_head(program, head.weights, [0.0] * 99)


def relu_at_the_end() -> bytes:
    return mlp([Layer([[1, 2], [3, 4]], [0, 0], [0.1], 0.1, 0, "RELU")], 0.1, 0,
               softmax=False)  # fmt: skip


def two_rows() -> bytes:
    tensors = [
        Tensor("x", (2, 3), "int8", (0.1,), (0,)),
        Tensor("w", (4, 3), "int8", (0.1,), (0,), data=bytes(12)),
        Tensor("y", (2, 4), "int8", (0.1,), (0,)),
    ]
    return build(tensors, [Op("FULLY_CONNECTED", (0, 1, -1), (2,), 4)], [0], [2])


def zero_point() -> bytes:
    tensors = [
        Tensor("x", (1, 3), "int8", (0.1,), (0,)),
        Tensor("w", (4, 3), "int8", (0.1,), (5,), data=bytes(12)),
        Tensor("y", (1, 4), "int8", (0.1,), (0,)),
    ]
    return build(tensors, [Op("FULLY_CONNECTED", (0, 1, -1), (2,), 4)], [0], [2])


def tanh_behind() -> bytes:
    tensors = [
        Tensor("x", (1, 3), "int8", (0.1,), (0,)),
        Tensor("w", (4, 3), "int8", (0.1,), (0,), data=bytes(12)),
        Tensor("y", (1, 4), "int8", (0.1,), (0,)),
        Tensor("z", (1, 4), "int8", (1 / 128,), (0,)),
    ]
    ops = [Op("FULLY_CONNECTED", (0, 1, -1), (2,), 4), Op("TANH", (2,), (3,))]
    return build(tensors, ops, [0], [3])


def no_dense() -> bytes:
    tensors = [Tensor(n, (1, 4), "int8", (0.1,), (0,)) for n in "xy"]
    return build(tensors, [Op("RELU", (0,), (1,))], [0], [1])


@pytest.mark.parametrize(
    "make", [relu_at_the_end, two_rows, zero_point, tanh_behind, no_dense]
)
def test_what_cannot_learn_is_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises(ModelError, match="cannot learn"):
        read_head(compile_model(make()))


def test_a_sigmoid_may_follow() -> None:
    tensors = [
        Tensor("x", (1, 3), "int8", (0.1,), (0,)),
        Tensor("w", (4, 3), "int8", (0.1,), (0,), data=bytes(range(12))),
        Tensor("y", (1, 4), "int8", (0.1,), (0,)),
        Tensor("z", (1, 4), "int8", (1 / 256,), (-128,)),
    ]
    ops = [Op("FULLY_CONNECTED", (0, 1, -1), (2,), 4), Op("LOGISTIC", (2,), (3,))]
    head = read_head(compile_model(build(tensors, ops, [0], [3])))
    assert (head.op, head.features, head.actions) == (0, 3, 4)


@pytest.mark.parametrize("seed", range(30))
def test_damaged_programs_are_refused(seed: int) -> None:
    """With a checksum that fits, so that the verifier and the reader see it."""
    rng = random.Random(seed)
    good = compile_model(network())
    for _ in range(50):
        bad = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            bad[rng.randrange(24, len(bad))] = rng.randrange(256)
        total = totals = 0
        for (word,) in struct.iter_unpack("<I", bad[24:]):
            total = (total + word) & 0xFFFFFFFF
            totals = (totals + total) & 0xFFFFFFFF
        bad[16:24] = struct.pack("<II", total, totals)
        try:
            head = read_head(bytes(bad))
            replace_head(bytes(bad), [0.1] * len(head.weights), head.bias)
        except ModelError:
            continue


def test_multiplier_is_the_compilers() -> None:
    rng = random.Random(4)
    reals = [math.exp(rng.uniform(-20, 20)) for _ in range(5000)]
    reals += [2.0**i for i in range(-30, 30)] + [1.0 - 2**-33, 0.5 - 2**-40]
    for real in reals:
        assert _multiplier(real) == arith.quantize_multiplier(real)


@pytest.mark.parametrize("softmax", [False, True])
def test_the_heads_inputs_are_kept(softmax: bool) -> None:
    """What `infer` gives, times the weights, is what the head says."""
    data = network((5, 15, 9, 4), softmax=softmax)
    program = compile_model(data)
    head, plain = (
        read_head(program),
        compile_model(network((5, 15, 9, 4), softmax=False)),
    )
    learner, model, check = (
        Learner(head),
        Model(Program(program)),
        Model(Program(plain)),
    )
    same = Model(Program(program))
    rng = random.Random(5)
    for turn in range(100):
        if turn == 50:
            # another arena from here on
            model.swap(Program(program))
        row = rng.randbytes(5)
        for each in (model, check, same):
            each.input.cast("B")[:] = row
        kept = learner.infer(model)
        check.invoke()
        same.invoke()
        assert bytes(model.output) == bytes(same.output)
        real = logits(head, memoryview(kept).cast("b").tolist())
        for got, value in zip(check.output.tolist()[0], real, strict=True):
            exact = value / head.out_scale + head.out_zero
            assert abs(got - max(-128, min(127, exact))) < 1.01


def test_another_models_inputs_are_refused() -> None:
    learner = Learner(read_head(compile_model(network())))
    for other in (network((5, 15, 6, 4)), network((5, 4))):
        with pytest.raises(ValueError, match="no such head"):
            learner.infer(Model(other))
