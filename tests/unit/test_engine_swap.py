# SPDX-License-Identifier: MIT
"""Model.swap: another program in the same memory, while threads run the old one."""

import gc
import itertools
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from helpers.malloc_count import count_mallocs
from helpers.models import border, network, several
from helpers.reference import need_interpreter

from pymlk import Model, ModelError, Program
from pymlk.compile import compile_model


def program(data: bytes) -> Program:
    return Program(compile_model(data))


def answer(source: Any, row: bytes) -> bytes:
    """What a model that never swapped says."""
    model = Model(source)
    model.input.cast("B")[:] = row
    model.invoke()
    return bytes(model.output)


ROW = bytes([1, 250, 77, 128, 9])


@pytest.mark.parametrize(
    "other",
    [
        network(seed=2),
        # another depth, width, quantisation, and a larger arena
        network((5, 40, 33, 20, 4), seed=3, zero=-7),
        # under the lock instead of under the GIL
        network((5, 200, 200, 4), seed=4),
        # no softmax
        network(seed=5, softmax=False),
    ],
)
def test_swap(other: bytes) -> None:
    """The next call runs the new program, in the old memory."""
    model = Model(network())
    model.input.cast("B")[:] = ROW
    model.invoke()
    first = bytes(model.output)
    inputs, outputs, views = model.inputs, model.outputs, (model.input, model.output)
    new = program(other)
    model.swap(new)
    # nothing has run yet
    assert (bytes(model.input), bytes(model.output)) == (ROW, first)
    model.invoke()
    assert bytes(views[1]) == answer(other, ROW) != first
    assert bytes(views[0]) == ROW
    assert (model.inputs, model.outputs) == (inputs, outputs)
    assert (model.input, model.output) == views
    assert model.program is new
    fresh = Model(other)
    for name in ("input_quants", "output_quants", "macs", "arena_bytes", "ops"):
        assert getattr(model, name) == getattr(fresh, name)
    views[0].cast("B")[:] = bytes(5)
    model.invoke()
    assert bytes(views[1]) == answer(other, bytes(5))
    # and back
    model.swap(program(network()))
    model.input.cast("B")[:] = ROW
    model.invoke()
    assert bytes(model.output) == first
    assert model.input_quant.zero_point == 3


def test_float_borders() -> None:
    """Converted with the new program's scale."""
    model, other = Model(border(True, True)), border(True, True, scale=0.5)
    view = model.input
    view[0, 0] = 1.26
    model.invoke()
    before = model.output.tolist()
    model.swap(program(other))
    model.invoke()
    fresh = Model(other)
    fresh.input[0, 0] = 1.26
    fresh.invoke()
    assert model.output.tolist() == fresh.output.tolist() != before
    assert view[0, 0] == pytest.approx(1.26)
    model.reset()
    assert view[0, 0] == model.output[0, 0] == 0


def test_several_borders() -> None:
    model = Model(several())
    model.inputs[1][2] = 100
    model.swap(program(several()))
    model.inputs[0][0, 0] = 21
    model.invoke()
    assert model.outputs[0][0, 0] == 20
    assert model.outputs[1].tolist() == [0, 0, 30]


def test_reset_after_swap() -> None:
    model, other = Model(network()), network(seed=2)
    model.swap(program(other))
    model.input.cast("B")[:] = ROW
    model.invoke()
    model.reset()
    assert not any(bytes(model.input) + bytes(model.output))
    model.invoke()
    assert bytes(model.output) == answer(other, bytes(5))


def test_many_rows_after_swap() -> None:
    model, other = Model(network()), network(seed=2)
    model.swap(program(other))
    out = bytearray(8)
    rows = memoryview(ROW + bytes(5)).cast("b", (2, 5))
    model.invoke_many(rows, memoryview(out).cast("b", (2, 4)))
    assert bytes(out) == answer(other, ROW) + answer(other, bytes(5))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (network((6, 15, 4)), "inputs int8 1x6 found, int8 1x5 expected"),
        (network((5, 15, 3)), "outputs int8 1x3 found, int8 1x4 expected"),
        (several(), "inputs int8 1x4, int8 3 found, int8 1x5 expected"),
        (border(True, False), "inputs float32 2x3 found, int8 1x5 expected"),
    ],
)
def test_refused(other: bytes, words: str) -> None:
    """Other inputs or outputs: nothing changes."""
    model = Model(network())
    before = model.program
    model.input.cast("B")[:] = ROW
    with pytest.raises(ModelError, match=f"cannot swap: {words}"):
        model.swap(program(other))
    model.invoke()
    assert bytes(model.output) == answer(network(), ROW)
    assert model.program is before


def test_what_is_no_program() -> None:
    model: Any = Model(network())
    for wrong in (None, network(), "path", model):
        with pytest.raises(TypeError):
            model.swap(wrong)
    with pytest.raises(ModelError, match="cannot swap"):
        model.swap(Program.__new__(Program))
    with pytest.raises(ModelError, match="only a model on the engine"):
        Model.__new__(Model).swap(model.program)
    need_interpreter()
    with pytest.raises(ModelError, match="only a model on the engine"):
        Model(network(), backend="tflite").swap(model.program)


def test_old_programs_are_let_go() -> None:
    model, programs = Model(network()), [program(network(seed=i)) for i in range(2)]
    counts = [sys.getrefcount(p) for p in programs]
    for new in itertools.islice(itertools.cycle(programs), 101):
        model.swap(new)
    del new
    assert sys.getrefcount(programs[0]) == counts[0] + 1
    assert sys.getrefcount(programs[1]) == counts[1]
    view = model.output
    del model
    gc.collect()
    assert [sys.getrefcount(p) for p in programs] == counts
    assert len(bytes(view)) == 4


def test_no_allocation_after_swap() -> None:
    setup = f"""
from pymlk import Model
model = Model(bytes.fromhex({network().hex()!r}))
model.swap(model.program)
"""
    assert count_mallocs(setup, "model.invoke()", 2000) == 0


def in_threads(*work: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def guarded(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(task,)) for task in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert failures == []


SMALL, LARGE = (5, 15, 5, 4), (5, 300, 300, 4)


@pytest.mark.parametrize(
    "widths", [(SMALL, SMALL), (LARGE, LARGE), (SMALL, LARGE)], ids=str
)
def test_beside_calls(widths: Any) -> None:
    """Every call runs one program as a whole, whatever the sizes."""
    models = [network(w, seed=i) for i, w in enumerate(widths)]
    programs = [program(data) for data in models]
    expected = {answer(p, ROW) for p in programs}
    assert len(expected) == 2
    model = Model(programs[0])
    model.input.cast("B")[:] = ROW
    model.invoke()
    end = time.monotonic() + 2
    seen = set()
    rows = memoryview(ROW * 50).cast("b", (50, 5))
    row = memoryview(ROW).cast("b", (1, 5))

    def swapping() -> None:
        for new in itertools.cycle(programs):
            model.swap(new)
            if time.monotonic() > end:
                return

    def single() -> None:
        one = bytearray(4)
        while time.monotonic() < end:
            model.invoke()
            # the output itself may be half written by the others
            model.invoke_many(row, memoryview(one).cast("b", (1, 4)))
            assert bytes(one) in expected
            seen.add(bytes(one))

    def many() -> None:
        out = bytearray(200)
        while time.monotonic() < end:
            model.invoke_many(rows, memoryview(out).cast("b", (50, 4)))
            # one program for all rows
            assert bytes(out) in {one * 50 for one in expected}

    in_threads(swapping, single, many)
    assert seen == expected


def test_after_it_returns_the_next_call_is_new() -> None:
    """One thread swaps and calls, while others keep the model busy."""
    programs = [program(network(LARGE, seed=i)) for i in range(2)]
    expected = [answer(p, ROW) for p in programs]
    model = Model(programs[0])
    model.input.cast("B")[:] = ROW
    rows = memoryview(ROW).cast("b", (1, 5))
    end = threading.Event()

    def swapping() -> None:
        out = bytearray(4)
        for turn in range(300):
            model.swap(programs[turn % 2])
            model.invoke_many(rows, memoryview(out).cast("b", (1, 4)))
            assert bytes(out) == expected[turn % 2]
        end.set()

    def busy() -> None:
        while not end.is_set():
            model.invoke()

    in_threads(swapping, busy, busy)
