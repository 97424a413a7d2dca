# SPDX-License-Identifier: MIT
"""Whole models from elsewhere, with recorded and live references."""

import struct
import warnings

import pytest
from helpers.micro import MicroReference, reference_of
from helpers.need import need_module
from helpers.reference import (
    SUPPORTED,
    Reference,
    assert_same,
    contents,
    describe,
    fill,
    manifest,
    model_path,
    need_data,
    need_tflite,
    operators,
    random_inputs,
)

from pymlk import Model, ModelError, UnsupportedOpError
from pymlk.compile import arith, read_graph
from pymlk.tflite import FallbackNotice
from pymlk.write import Op, Tensor, build

ENTRIES = manifest("models")
# a model of another class that only moves bytes
MOVES = ("coral__split_concat",)
# A tensor of it has scales in a form newer than tflite-runtime 2.14 and no data: the
# runtime would abort on it, so it must not get that far.
NEWER = [e for e in ENTRIES if e["name"] == "litert__blockwise_quantized"]
# A bias of it names dimension 3, which tflite-runtime takes amiss; nobody reads it, so
# tflite-micro is the reference.
REFUSED = ("tflm__person_detect",)
# Models with 16-bit activations or states of which the engine has all forms.
WIDE = (
    "adi__no_norm_model_int16_1",
    "adi__no_norm_model_int16_2",
    "litert__mul_quant",
    "litert__single_add_default_a16w8_recipe_quantized",
    "tflm__dtln_noise_suppression",
    "tflm__keyword_scrambled",
    "tflm__micro_speech_lstm",
    "tflm__trained_lstm_int8",
)
# The engine runs these, but no reference does, or not with all inputs.
RSQRT = "litert__single_rsqrt_default_a16w8_recipe_quantized"
EINSUMS = (
    "litert__static_w8_a16_quantized_attn_vec_einsum",
    "litert__static_w8_a16_quantized_k_einsum",
)
ALONE = [e for e in ENTRIES if e["name"] in (RSQRT, *EINSUMS)]
OURS = [
    e
    for e in ENTRIES
    if operators(e) <= SUPPORTED
    and (e["cls"] == "int8" or e["name"] in (*WIDE, *MOVES))
    and e not in NEWER
]
OTHERS = [e for e in ENTRIES if e not in (*OURS, *NEWER, *ALONE)]
FALLBACK = [
    e
    for e in OTHERS
    if e["name"]
    in (
        "coral__mobilenet_v1_0.25_128_quant",
        "silabs__model",
        "tflite2onnx__conv.uint8",
    )
]


def name(entry):
    """A test's id."""
    return entry["name"]


def test_the_data_are_there():
    """Without them the tests below are none at all."""
    need_data()
    assert len(OURS) >= 124
    assert len(ALONE) == 3
    assert len(FALLBACK) == 3
    assert "mlperf__ad01_int8" in map(name, OURS)


RECORDED = [e for e in OURS if model_path("models", e).with_suffix(".npz").exists()]


@pytest.mark.parametrize("entry", RECORDED, ids=name)
def test_recorded(entry):
    """Outputs recorded from the reference kernels, byte for byte."""
    np = need_module("numpy")
    path = model_path("models", entry)
    model = Model(path, backend="engine")
    vectors = np.load(path.with_suffix(".npz"))
    for row in range(len(vectors["in0"])):
        fill(model.inputs, [vectors[f"in{i}"][row] for i in range(len(model.inputs))])
        model.invoke()
        found = contents(model.outputs)
        expected = [vectors[f"ref{i}"][row].tobytes() for i in range(len(found))]
        assert found == expected, f"row {row}: {describe(found, expected)}"


@pytest.mark.parametrize("entry", OURS, ids=name)
def test_live(entry):
    """Random inputs and corner cases against the running reference."""
    need_tflite()
    data = model_path("models", entry).read_bytes()
    model = Model(data, backend="engine")
    if name(entry) in REFUSED:
        with pytest.raises(ModelError, match="quantized_dimension must be in range"):
            Reference(data)
    # The reference takes about a nanosecond for a multiply-accumulate. The first three
    # rows are all zero, all least, all greatest; `make exact` has a thousand more.
    rows = max(8, min(304, 300_000_000 // max(model.macs, 1)))
    assert_same(data, model, rows, reference=reference_of(data))


def alone(wanted):
    """The bytes of a model that has a test of its own."""
    need_data()
    return next(
        model_path("models", e).read_bytes() for e in ALONE if name(e) == wanted
    )


def test_rsqrt_of_int16():
    """tflite-micro runs it, unless an operand is negative."""
    data = alone(RSQRT)
    model, reference = Model(data, backend="engine"), MicroReference(data)
    for first in range(0, 32768, 1024):
        row = struct.pack("<1024h", *range(first, first + 1024))
        fill(model.inputs, (row,))
        model.invoke()
        found, expected = contents(model.outputs), reference(row)
        assert found == expected, describe(found, expected)
    row = struct.pack("<1024h", *range(-1024, 0))
    with pytest.raises(ModelError):
        reference(row)
    fill(model.inputs, (row,))
    model.invoke()
    assert contents(model.outputs)[0] == struct.pack("<1024h", *[32767] * 1024)


@pytest.mark.parametrize("wanted", EINSUMS)
def test_batch_matmul_with_int8(wanted):
    """No runtime has it: the same matrix as FULLY_CONNECTED in a model of its own."""
    data = alone(wanted)
    with pytest.raises(ModelError):
        reference_of(data)
    graph = read_graph(data)
    product = next(op for op in graph.ops if op.name == "BATCH_MATMUL")
    x, w, y = (graph.tensors[i] for i in (*product.inputs, *product.outputs))
    depth, width = w.shape
    zeros = (0,) * width
    bias = [arith.f32(x.scales[0] * s) for s in w.scales]
    columns = b"".join(w.data[i::width] for i in range(width))
    tensors = [
        Tensor("x", x.shape, "int16", x.scales, (0,)),
        Tensor("w", (width, depth), "int8", w.scales, zeros, 0, columns),
        Tensor("b", (width,), "int64", bias, zeros, data=bytes(8 * width)),
        Tensor("y", y.shape, "int16", y.scales, (0,)),
    ]
    same = build(tensors, [Op("FULLY_CONNECTED", (0, 1, 2), (3,), 7)], [0], [3])
    model = Model(data, backend="engine")
    assert_same(same, model, 12)


@pytest.mark.parametrize("entry", OTHERS, ids=name)
def test_the_engine_names_what_it_lacks(entry):
    """Asked for the engine, a model beyond it fails with an operator's name."""
    with pytest.raises(UnsupportedOpError) as caught:
        Model(model_path("models", entry), backend="engine")
    found = caught.value.operators
    assert found
    named = {text.split("] ")[-1].split(" ")[0] for text in found}
    assert named <= operators(entry), f"{named} named, {operators(entry)} in the model"
    if entry["cls"] == "int8":
        # every operator that is wholly unknown to the engine is named at once
        assert named >= operators(entry) - SUPPORTED


@pytest.mark.parametrize("entry", NEWER, ids=name)
@pytest.mark.parametrize("backend", ["auto", "engine", "tflite"])
def test_newer_form(entry, backend):
    """A form that no back end can run is refused before it reaches one."""
    with pytest.raises(ModelError, match=r"op\[0\] ADD: reads tensor 2 'quantized_"):
        Model(model_path("models", entry), backend=backend)


@pytest.mark.parametrize("entry", FALLBACK, ids=name)
def test_fallback(entry):
    """The same model runs through tflite, with a notice and tflite's own results."""
    need_tflite()
    data = model_path("models", entry).read_bytes()
    with pytest.warns(FallbackNotice, match="|".join(operators(entry) - SUPPORTED)):
        model = Model(data)
    assert model.backend == "tflite"
    assert set(model.ops) <= operators(entry)
    reference = Reference(data, default=True)
    for inputs in random_inputs(model, 6, 5):
        fill(model.inputs, inputs)
        model.invoke()
        assert contents(model.outputs) == reference(*inputs)


@pytest.mark.parametrize("entry", OURS + OTHERS, ids=name)
def test_every_model_loads_or_says_why(entry):
    """No model of the collection ends in anything but a model or a ModelError."""
    need_tflite()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackNotice)
        try:
            model = Model(model_path("models", entry))
        except ModelError as refusal:
            found = str(refusal)
        else:
            model.invoke()
            return
    assert "tflite_runtime" in found, "only tflite may refuse it"
