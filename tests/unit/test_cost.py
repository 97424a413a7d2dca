# SPDX-License-Identifier: MIT
"""The bound on a run's time: no run does more than its program says, counted."""

import json
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.engine_c import Limits
from helpers.engine_steps import assert_bounded, steps_and_bound
from helpers.models import network
from helpers.reference import ROOT, compiled, manifest, model_path, need_data

from pymlk import Program
from pymlk.compile import compile_model
from pymlk.compile.program import (
    NO_SOURCE,
    OP_BATCH_MATMUL,
    Data,
    Place,
    Step,
    checksum,
    pack,
)

CORPUS = {p.name: p.read_bytes() for p in (ROOT / "tests/fuzz/corpus").glob("*.mlk")}


@pytest.mark.parametrize("name", CORPUS)
def test_each_operator(name: str) -> None:
    assert_bounded(CORPUS[name])


def test_data_ops() -> None:
    """Shapes of single operators as they are found in the wild."""
    need_data()
    programs = list(compiled("ops"))
    assert len(programs) > 350
    for _, program in programs:
        assert_bounded(program)


def test_whole_models() -> None:
    """Bounded, and not by far more than what they do."""
    need_data()
    programs = list(compiled("models"))
    assert len(programs) > 110
    for name, program in programs:
        found = steps_and_bound(program)
        assert found is not None
        steps, bound = found
        assert steps <= bound, name
        if Program(program).macs > 1000:
            assert bound < 16 * steps, name


def test_hostile_programs() -> None:
    """Parameters that no compiler would write, where the verifier lets them pass."""
    rng = random.Random(7)
    values = (0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 64, 127, 255, 1000, 65535, 2**31 - 1)
    ran = 0
    for _ in range(6000):
        data = bytearray(CORPUS[rng.choice(sorted(CORPUS))])
        (total,) = struct.unpack_from("<I", data, 8)
        first, last = struct.unpack_from("<II", data, 44)[0], total
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(first // 4, last // 4) * 4
            struct.pack_into("<I", data, at, rng.choice(values))
        struct.pack_into("<Q", data, 16, checksum(bytes(data[24:total])))
        found = steps_and_bound(bytes(data), Limits(1 << 20, 1 << 20))
        if found is not None:
            assert found[0] <= found[1], data.hex()
            ran += 1
    assert ran > 500


def test_speed() -> None:
    """Each figure counts for itself; too much is the most there is."""
    program = Program(compile_model(network((5, 15, 5, 4))))
    assert program.cost((0, 0, 0)) == 1
    # a thousandth, and less than a hundredth of it more
    for at, count in ((0, 4), (1, None), (2, None)):
        speed = [0, 0, 0]
        speed[at] = 1_000_000
        cost = program.cost((speed[0], speed[1], speed[2]))
        if count is not None:
            assert count * 1000 <= cost <= count * 1010
        speed[at] = 2_000_000
        twice = program.cost((speed[0], speed[1], speed[2]))
        assert twice == pytest.approx(2 * cost, abs=4)
    # three layers, each with one block of 16 outputs
    macs = 16 * 16 + 16 * 16 + 16 * 16
    assert macs * 1000 <= program.cost((0, 1_000_000, 0)) <= macs * 1010
    assert program.cost() > program.cost((1000, 1000, 1000))
    for wrong in ((), (1, 2), (1, 2, 3, 4), (-1, 0, 0), (0, 2**32, 0), 5, "abc"):
        with pytest.raises(ValueError, match="three integers of 32 bits"):
            program.cost(wrong)  # type: ignore[arg-type]


def test_more_than_can_be_counted() -> None:
    """The sum does not wrap."""
    need_data()
    entry = next(e for e in manifest("models") if e["name"] == "mlperf__vww_96_int8")
    program = Program(compile_model(model_path("models", entry).read_bytes()))
    most = (2**32 - 1,) * 3
    assert program.macs * (2**32 - 1) // 1000 < program.cost(most) < 2**64
    # products of large matrices, again and again, in the same place
    side = 8192
    place = Place("x", "INT8", "INT8", (side, side), 1.0, 0, 0, side * side)
    params = (1, 1, 1, 1, 0, 0, side, side, side, 0, 0, 0, 0, 1 << 30, 0, 0)
    step = Step(OP_BATCH_MATMUL, NO_SOURCE, (0, 0), (0,), params, side**3)
    endless = Program(pack([place], [step] * 4096, [0], [0], Data(), side * side, 0))
    assert endless.cost((0, 1000, 0)) == pytest.approx(4096 * side**3, rel=0.01)
    assert endless.cost(most) == 2**64 - 1


def run(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "pymlk", "inspect", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def test_command(tmp_path: Path) -> None:
    """The budget decides the exit code; a program and its model have one cost."""
    model, program = tmp_path / "m.tflite", tmp_path / "m.mlk"
    model.write_bytes(network())
    program.write_bytes(compile_model(network()))
    cost = Program(program.read_bytes()).cost()
    for path in (model, program):
        done = run(path)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"a run takes at most {cost:,} ns\n" in done.stdout
        done = run(path, "--budget-ns", cost)
        assert done.returncode == 0
        assert f"in the budget of {cost:,} ns" in done.stdout
        done = run(path, "--budget-ns", cost - 1)
        assert done.returncode == 1
        assert f"OVER the budget of {cost - 1:,} ns" in done.stdout
        assert run(path, "--budget-ns", cost - 1, "--speed", "9,9,9").returncode == 0
        facts: dict[str, Any] = json.loads(run(path, "--json", "--budget-ns", 5).stdout)
        assert (facts["at_most_ns"], facts["budget_ns"], facts["slow"]) == (
            cost,
            5,
            True,
        )
    for wrong in (("--budget-ns", "0"), ("--speed", "1,2"), ("--speed", "1,2,-3")):
        assert run(model, *wrong).returncode == 2
