# SPDX-License-Identifier: MIT
"""Whole models from elsewhere, with recorded and live references."""

import warnings

import pytest
from helpers.micro import reference_of
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
    need_numpy,
    need_tflite,
    operators,
    random_inputs,
)

from pymlk import Model, ModelError, UnsupportedOpError
from pymlk.tflite import FallbackNotice

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
    "litert__mul_quant",
    "litert__single_add_default_a16w8_recipe_quantized",
    "tflm__dtln_noise_suppression",
    "tflm__keyword_scrambled",
    "tflm__micro_speech_lstm",
    "tflm__trained_lstm_int8",
)
OURS = [
    e
    for e in ENTRIES
    if operators(e) <= SUPPORTED
    and (e["cls"] == "int8" or e["name"] in (*WIDE, *MOVES))
    and e not in NEWER
]
OTHERS = [e for e in ENTRIES if e not in OURS and e not in NEWER]
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
    assert len(OURS) >= 122
    assert len(FALLBACK) == 3
    assert "mlperf__ad01_int8" in map(name, OURS)


RECORDED = [e for e in OURS if model_path("models", e).with_suffix(".npz").exists()]


@pytest.mark.parametrize("entry", RECORDED, ids=name)
def test_recorded(entry):
    """Outputs recorded from the reference kernels, byte for byte."""
    np = need_numpy()
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
