# SPDX-License-Identifier: MIT
"""Model.invoke_many: rows in, rows out, as a loop of invoke() would."""

import random
import threading
from typing import Any

import pytest
from helpers.malloc_count import count_mallocs
from helpers.models import border, network, several
from helpers.need import need_module
from helpers.reference import need_interpreter

from pymlk import Model


def rows_of(model: Model, count: int, seed: int = 0) -> memoryview:
    """Random rows of a model's input, corner cases first."""
    form, size = model.input.format, model.input.nbytes // model.input.itemsize
    rng = random.Random(seed)
    room = memoryview(bytearray(count * model.input.nbytes)).cast(form)
    for i in range(count * size):
        if form == "f":
            room[i] = rng.uniform(-20, 20)
        else:
            room[i] = (
                (0, -128, 127)[i // size] if i < 3 * size else rng.randint(-99, 99)
            )
    return room.cast("B").cast(form, (count, size))


def room_for(model: Model, count: int) -> memoryview:
    """Memory for so many rows of a model's output."""
    form, size = model.output.format, model.output.nbytes // model.output.itemsize
    return memoryview(bytearray(count * model.output.nbytes)).cast(form, (count, size))


def one_by_one(model: Model, rows: memoryview) -> bytes:
    """What a loop of invoke() gives."""
    raw, size, out = rows.cast("B"), model.input.nbytes, b""
    for at in range(0, len(raw), size):
        model.input.cast("B")[:] = raw[at : at + size]
        model.invoke()
        out += bytes(model.output.cast("B"))
    return out


MODELS = {
    "small": network(),
    "large": network((64, 400, 64)),
    "float": border(True, True),
    "float in": border(True, False),
    "float out": border(False, True),
}


@pytest.mark.parametrize("backend", ["engine", "tflite"])
@pytest.mark.parametrize("name", MODELS)
def test_equals_a_loop(name: str, backend: Any) -> None:
    if backend == "tflite":
        need_interpreter()
    model = Model(MODELS[name], backend=backend)
    rows, out = rows_of(model, 40), room_for(model, 40)
    model.invoke_many(rows, out)
    assert bytes(model.output) == bytes(out)[-model.output.nbytes :]
    assert bytes(model.input) == bytes(rows)[-model.input.nbytes :]
    found = bytes(out)
    assert found == one_by_one(Model(MODELS[name], backend=backend), rows)
    assert len({found[i : i + out.shape[1]] for i in range(0, len(found), 4)}) > 2


def test_shapes_of_rows() -> None:
    """Rows may keep the tensor's own shape; none at all is a call that does nothing."""
    model = Model(network())
    rows, out = rows_of(model, 6), room_for(model, 6)
    model.invoke_many(rows, out)
    expected = bytes(out)
    other = memoryview(bytearray(24)).cast("b", (6, 1, 4))
    model.invoke_many(rows.cast("B").cast("b", (6, 1, 5)), other)
    assert bytes(other) == expected
    np = need_module("numpy")
    array = np.zeros((6, 1, 4), np.int8)
    model.invoke_many(np.asarray(rows), array)
    assert array.tobytes() == expected
    before = bytes(model.output)
    model.invoke_many(np.zeros((0, 5), np.int8), np.zeros((0, 4), np.int8))
    assert bytes(model.output) == before


def test_the_models_own_memory() -> None:
    """One row from and to the model itself, and outputs over their inputs."""
    model = Model(network((6, 6), softmax=False))
    rows = rows_of(model, 7)
    expected = one_by_one(model, rows)
    model.invoke_many(rows, rows)
    assert bytes(rows) == expected
    model.input[0, 3] = 77
    model.invoke()
    expected = bytes(model.output)
    model.invoke_many(model.input, model.output)
    assert bytes(model.output) == expected


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ((b"\0" * 10, "b", (2, 5)), (6, "b", (2, 3)), "outputs: .* 2x3 found, Nx4"),
        ((b"\0" * 8, "b", (2, 4)), (8, "b", (2, 4)), "inputs: .* 2x4 found, Nx5"),
        ((b"\0" * 10, "b", (10,)), (8, "b", (2, 4)), "inputs: .* 10 found, Nx5"),
        (
            (b"\0" * 10, "B", (2, 5)),
            (8, "b", (2, 4)),
            "inputs: dtype uint8 found, i",
        ),
        (
            (b"\0" * 40, "f", (2, 5)),
            (8, "b", (2, 4)),
            "inputs: dtype float32 found, i",
        ),
        (
            (b"\0" * 80, "d", (2, 5)),
            (8, "b", (2, 4)),
            "inputs: dtype d found, int8",
        ),
        (
            (b"\0" * 10, "b", (2, 5)),
            (8, "B", (2, 4)),
            "outputs: dtype uint8 found, i",
        ),
        ((b"\0" * 10, "b", (2, 5)), (12, "b", (3, 4)), "3 rows found, 2 expected"),
        ((b"\0" * 10, "b", (2, 5)), (4, "b", (1, 4)), "1 rows found, 2 expected"),
    ],
)
def test_refused(inputs: Any, outputs: Any, words: str) -> None:
    """What was found and what is expected."""
    data, form, shape = inputs
    source = memoryview(data).cast("B").cast(form, shape)
    size, form, shape = outputs
    target = memoryview(bytearray(b"\x55" * size)).cast(form, shape)
    with pytest.raises(ValueError, match=words):
        Model(network()).invoke_many(source, target)
    assert bytes(target) == b"\x55" * len(bytes(target))


def test_no_such_buffers() -> None:
    """Read-only, strided, a scalar, no buffer at all."""
    np = need_module("numpy")
    model = Model(network())
    good, out = np.zeros((2, 5), np.int8), np.zeros((2, 4), np.int8)
    locked = out.copy()
    locked.flags.writeable = False
    with pytest.raises(ValueError, match="outputs: a read-only buffer found"):
        model.invoke_many(good, locked)
    for strided in (np.zeros((4, 5), np.int8)[::2], np.zeros((5, 2), np.int8).T):
        with pytest.raises(ValueError, match="inputs: a strided buffer found"):
            model.invoke_many(strided, out)
    with pytest.raises(ValueError, match="inputs: shape a scalar found, Nx5"):
        model.invoke_many(np.int8(3), out)
    for wrong in (None, [1, 2], "text"):
        with pytest.raises(TypeError):
            model.invoke_many(wrong, out)
        with pytest.raises(TypeError):
            model.invoke_many(good, wrong)


def test_several_inputs_or_outputs() -> None:
    """One of each only, and the text says how many there are."""
    model = Model(several())
    with pytest.raises(ValueError, match="inputs: the model has 2, invoke_many nee"):
        model.invoke_many(b"", bytearray())
    with pytest.raises(ValueError, match="inputs: the model has 0"):
        Model.__new__(Model).invoke_many(b"", bytearray())


def test_buffers_are_given_back() -> None:
    """Also after an error: a bytearray with an export cannot be resized."""
    model = Model(network())
    source, target = bytearray(10), bytearray(8)
    model.invoke_many(
        memoryview(source).cast("b", (2, 5)), memoryview(target).cast("b", (2, 4))
    )
    with pytest.raises(ValueError, match="dtype"):
        model.invoke_many(source, target)
    source.append(0)
    target.append(0)


def test_no_allocation_per_row() -> None:
    """A call allocates for its buffers, however many rows they have."""
    setup = """
from pymlk import Model
model = Model(bytes.fromhex({data!r}), backend="engine")
size, width = model.input.nbytes, model.output.nbytes
forms = model.input.format, model.output.format
def rows(count):
    source = memoryview(bytes(count * size)).cast(forms[0])
    target = memoryview(bytearray(count * width)).cast(forms[1])
    return (source.cast("B").cast(forms[0], (count, len(source) // count)),
            target.cast("B").cast(forms[1], (count, len(target) // count)))
few, many = rows(300), rows(3000)
"""
    for name in ("small", "float"):
        source = setup.format(data=MODELS[name].hex())
        few = count_mallocs(source, "model.invoke_many(*few)", 50)
        many = count_mallocs(source, "model.invoke_many(*many)", 50)
        # for each call the buffers, and Python's integers above 256
        assert few == many < 50 * 40


@pytest.mark.parametrize("name", ["small", "large"])
def test_beside_invoke(name: str) -> None:
    """Serialised: while rows run without the GIL, no invoke() comes between."""
    model = Model(MODELS[name])
    rows, rounds = rows_of(model, 2000 if name == "small" else 100), 20
    expected = one_by_one(Model(MODELS[name]), rows)
    failures = []
    end = threading.Event()

    def many() -> None:
        out = room_for(model, rows.shape[0])
        for _ in range(rounds):
            model.invoke_many(rows, out)
            if bytes(out) != expected:
                failures.append("rows differ")
        end.set()

    def single() -> None:
        while not end.is_set():
            model.invoke()

    threads = [threading.Thread(target=t) for t in (many, many, single, single)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert failures == []


def test_the_gil_is_free_meanwhile() -> None:
    """Another thread goes on while one call runs."""
    model = Model(network((64, 400, 64)))
    rows, out = rows_of(model, 100), room_for(model, 3000)
    rows = memoryview(bytes(rows) * 30).cast("b", (3000, 64))
    turns, inside = 0, threading.Event()

    def work() -> None:
        inside.set()
        model.invoke_many(rows, out)
        inside.clear()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    while inside.is_set():
        turns += 1
    thread.join(60)
    assert turns > 100
