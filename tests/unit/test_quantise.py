# SPDX-License-Identifier: MIT
"""Quantised networks: as near to the floats as promised, equal to tflite-runtime."""

from dataclasses import replace

import pytest
from helpers.need import need_module
from helpers.reference import Reference, assert_same, need_data

from pymlk import Model

np = need_module("numpy")

from pymlk.train.network import Layer, Network, start  # noqa: E402
from pymlk.train.quantise import INT8, INT16, Options, Scale, quantise  # noqa: E402

WIDE = Options(bits=16, input_bits=16)


def shares(data: bytes, rows):
    """The program's outputs as confidences."""
    model = Model(data)
    quant = model.input_quant
    wide = model.input.itemsize == 2
    scale = Scale(quant.scale, quant.zero_point, INT16 if wide else INT8)
    inputs = scale.integers(rows).astype("<i2" if wide else "i1")
    outputs = np.zeros((len(rows), model.output.shape[-1]), "i1")
    model.invoke_many(np.ascontiguousarray(inputs), outputs)
    return (outputs.astype(float) + 128) / 256


def network(activation: str, *, filters: int = 0, hidden=(12, 6)):
    net = start(
        4, 5, hidden, 3, activation=activation, filters=filters, width=3, seed=1
    )
    rng = np.random.default_rng(2)
    return net.with_parameters(
        [p + rng.normal(0, 0.1, p.shape) for p in net.parameters]
    )


CASES = [
    (activation, filters, options)
    for activation in ("relu", "tanh", "sigmoid")
    for filters in (0, 4)
    for options in (
        Options(),
        Options(per_channel=False),
        WIDE,
        replace(WIDE, weight_bits=16),
    )
]


@pytest.mark.parametrize(("activation", "filters", "options"), CASES)
def test_is_near_the_floats_and_equals_tflite(activation, filters, options) -> None:
    net = network(activation, filters=filters)
    rows = np.random.default_rng(3).normal(0, 1, (300, 20))
    data = quantise(net, rows, options)
    limit = 0.02 if options.bits == 16 else 0.12
    assert abs(shares(data, rows) - net.probabilities(rows)).max() < limit
    assert_same(data, Model(data), 60, reference=Reference(data))


def test_int16_from_int8_inputs_equals_int16_of_the_same_values() -> None:
    net = network("tanh")
    scale = Scale(6 / 127, 0)
    rows = scale.rounded(np.random.default_rng(3).normal(0, 1, (200, 20)))
    narrow = quantise(net, rows, Options(bits=16, input_scale=scale.scale))
    wide = quantise(net, rows, replace(WIDE, input_scale=scale.scale / 256))
    assert (shares(narrow, rows) == shares(wide, rows)).all()


def test_tuning_gives_the_same_bytes_again_and_comes_nearer() -> None:
    net = network("sigmoid", hidden=(8,))
    net = net.with_parameters([p * 8 for p in net.parameters])
    rows = np.random.default_rng(3).normal(0, 1, (400, 20))
    plain = Options(per_channel=False)
    tuned = replace(plain, tune=60)
    data = quantise(net, rows, tuned)
    assert data == quantise(net, rows, tuned)
    right = net.probabilities(rows)

    def off(file: bytes) -> float:
        return float(abs(shares(file, rows) - right).mean())

    assert off(data) < off(quantise(net, rows, plain))


def test_refuses_nonsense() -> None:
    net = network("relu")
    rows = np.zeros((1, 20))
    for options, text in (
        (Options(bits=12), "12"),
        (Options(input_bits=16), "16 expected"),
        (Options(weight_bits=16), "weight_bits 16"),
        (Options(end="sigmoid"), "sigmoid"),
    ):
        with pytest.raises(ValueError, match=text):
            quantise(net, rows, options)
    with pytest.raises(ValueError, match="at least one row"):
        quantise(net, rows[:0])
    with pytest.raises(ValueError, match="finite"):
        quantise(net, rows * np.nan)


@pytest.mark.parametrize("folder", ["nn_arch_data", "online_nn_arch_data"])
def test_keeps_kml(folder: str) -> None:
    """KML's published 5-15-5-4 net: plain int8 loses many points, this does not."""
    path = need_data() / "datasets" / "kml-readahead" / folder

    def table(name: str):
        text = (path / f"{name}.csv").read_text()
        return np.array(
            [[*map(float, line.split())] for line in text.split("\n") if line]
        )

    layers = [
        Layer(
            table(f"linear{i}_w"),
            table(f"linear{i}_bias").ravel(),
            "sigmoid" if i < 2 else "none",
        )
        for i in range(3)
    ]
    net = Network(tuple(layers))
    rows, label = table("input"), table("output").ravel()
    if folder.startswith("online"):
        rows = (rows - table("mean").ravel()) / table("stddev").ravel()

    def right(p) -> float:
        return float((p.argmax(axis=1) == label).mean())

    published = right(net.logits(rows))
    assert published > 0.92
    wide = right(shares(quantise(net, rows, replace(WIDE, weight_bits=16)), rows))
    assert wide > published - 0.01
    tuned = replace(WIDE, tune=200, tune_rate=3e-4)
    assert right(shares(quantise(net, rows, tuned), rows)) > published - 0.02
