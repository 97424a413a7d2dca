# SPDX-License-Identifier: MIT
"""Programs whose inputs keep their memory, and such that use it again."""

import random

from helpers.models import network, several

from pymlk import Model, Program
from pymlk.compile import compile_model


def outcomes(program, rows, every_time):
    """Outputs for rows that are written before each run, or only when they change."""
    model = Model(Program(program))
    found, written = [], None
    for row in rows:
        if every_time or row != written:
            for view in model.inputs:
                view.cast("B")[:] = row[: view.nbytes]
            written = row
        model.invoke()
        found.append([bytes(view.cast("B")) for view in model.outputs])
    return found


def test_same_results_from_less_memory():
    """With inputs written anew each time both are the same model."""
    rng = random.Random(3)
    rows = [rng.randbytes(64) for _ in range(20)]
    for data in (network((64, 4, 64)), several()):
        kept = compile_model(data)
        reused = compile_model(data, keep_inputs=False)
        assert Program(reused).arena_bytes <= Program(kept).arena_bytes
        assert outcomes(kept, rows, True) == outcomes(reused, rows, True)


def test_kept_inputs_need_no_second_write():
    """That is what the larger arena is for."""
    data = network((64, 4, 64))
    rows = [bytes(range(64))] * 5
    kept = outcomes(compile_model(data), rows, False)
    assert kept == [kept[0]] * 5
    reused = outcomes(compile_model(data, keep_inputs=False), rows, False)
    assert reused[0] == kept[0]
    assert reused != kept
