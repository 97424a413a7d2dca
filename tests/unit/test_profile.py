# SPDX-License-Identifier: MIT
"""Single operators: run one after the other they are a run, and their time is told."""

import ctypes
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.engine_c import engine
from helpers.models import network
from helpers.reference import ROOT

from pymlk import Model, Program
from pymlk.cli.profile import profile, show
from pymlk.compile import compile_model
from pymlk.engine import Profiler

CORPUS = sorted((ROOT / "tests" / "fuzz" / "corpus").glob("*.mlk"))


def at(data: Any) -> ctypes.c_void_p:
    """The first address in a buffer that is a multiple of 16."""
    return ctypes.c_void_p(ctypes.addressof(data) + 15 & ~15)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_steps_are_a_run(path: Path) -> None:
    """mlk_program_run_ops() one by one gives what mlk_program_run() gives."""
    data = path.read_bytes()
    program = Program(data)
    room = ctypes.create_string_buffer(len(data) + 16)
    ctypes.memmove(at(room), data, len(data))
    arenas = []
    for steps in (False, True):
        arena = ctypes.create_string_buffer(program.arena_bytes + 16)
        engine().mlk_program_reset(at(room), at(arena))
        seed = bytes(i * 73 & 0xFF for i in range(program.arena_bytes))
        ctypes.memmove(at(arena), seed, len(seed))
        profiler = Profiler(program)
        if steps:
            for op in range(profiler.first, profiler.end):
                engine().mlk_program_run_ops(at(room), at(arena), op, op + 1, None)
        else:
            engine().mlk_program_run(at(room), at(arena))
        arenas.append(ctypes.string_at(at(arena), program.arena_bytes))
    assert arenas[0] == arenas[1]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_costs_add_up(path: Path) -> None:
    """The operators' MACs are the program's."""
    program = Program(path.read_bytes())
    profiler = Profiler(program)
    assert (0, profiler.end) <= (profiler.first, len(program.ops))
    assert sum(map(profiler.macs, range(profiler.first, profiler.end))) == program.macs


def test_no_such_operators() -> None:
    program = Program(compile_model(network()))
    profiler = Profiler(program)
    for first, end in ((-1, 1), (0, 5), (3, 2), (4, 5)):
        with pytest.raises(
            ValueError, match=f"operators {first} to {end} found, 0 to 4"
        ):
            profiler.measure(first, end, 1)
    for op in (-1, 4, 2**31 - 1):
        with pytest.raises(ValueError, match=f"operator {op} found, 0 to 3 expected"):
            profiler.macs(op)
    with pytest.raises(ValueError, match="expected"):
        Profiler.__new__(Profiler).measure(0, 0, 1)
    assert profiler.measure(0, 4, 0) < 1_000_000


def test_a_model_is_left_alone() -> None:
    """The profiler has an arena of its own."""
    model = Model(network())
    model.input[0, 0] = 77
    model.invoke()
    before = bytes(model.input), bytes(model.output)
    assert model.program is not None
    assert Profiler(model.program).measure(0, 4, 100) > 0
    assert (bytes(model.input), bytes(model.output)) == before


def test_the_larger_operator_takes_longer() -> None:
    """1000 x 200 against 5 x 10: whatever the machine does meanwhile."""
    data = network((1000, 200, 5, 10), softmax=False)
    facts = profile(Program(compile_model(data)), 5, None)
    assert [op["macs"] for op in facts["operators"]] == [200_000, 1000, 50]
    first, _, last = (op["ns"] for op in facts["operators"])
    assert first > 5 * last > 0
    assert facts["run_ns"] > first / 2
    assert facts["others_ns"] == {}


def test_other_runtimes() -> None:
    """Each that is installed is measured on the same model."""
    installed = set()
    for name, module in (
        ("tflite-runtime", "tflite_runtime"),
        ("litert", "ai_edge_litert"),
    ):
        try:
            __import__(module)
            installed.add(name)
        except ImportError:
            pass
    data = network()
    facts = profile(Program(compile_model(data)), 2, data)
    assert facts["others_ns"].keys() == installed
    assert all(ns > 0 for ns in facts["others_ns"].values())


def test_bars(capsys: pytest.CaptureFixture[str]) -> None:
    """The longest has the longest bar; each has one."""
    operators = [
        {"op": 0, "name": "FULLY_CONNECTED", "macs": 12345, "ns": 3000.0},
        {"op": 1, "name": "SOFTMAX", "macs": 0, "ns": 1000.0},
        {"op": 2, "name": "COPY", "macs": 0, "ns": 0.4},
    ]
    facts = {"rounds": 3, "operators": operators, "run_ns": 4000.0}
    show(facts | {"others_ns": {"litert": 8000.0}})
    lines = capsys.readouterr().out.splitlines()
    assert [line.count("#") for line in lines] == [0, 30, 10, 1, 0, 0]
    assert "3,000 ns  75%       12,345 MACs" in lines[1]
    assert lines[-1].split() == "litert: 8,000 ns; pymlk takes 0.50 of it".split()
    show({"rounds": 1, "operators": [], "run_ns": 0.0, "others_ns": {}})


def pymlk(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "pymlk", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def test_command(tmp_path: Path) -> None:
    """For people and as JSON; a model and a program."""
    (tmp_path / "m.tflite").write_bytes(network())
    (tmp_path / "m.mlk").write_bytes(compile_model(network()))
    for name in ("m.tflite", "m.mlk"):
        done = pymlk("inspect", "--profile", "--rounds", 2, tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert "profile of the program, medians of 2 interleaved" in done.stdout
        assert done.stdout.count("##") > 0
        done = pymlk("inspect", "--profile", "--json", "--rounds", 2, tmp_path / name)
        facts = json.loads(done.stdout)["profile"]
        assert [op["name"] for op in facts["operators"]] == [
            *["FULLY_CONNECTED"] * 3,
            "SOFTMAX",
        ]
        assert sum(op["macs"] for op in facts["operators"]) == 170
    assert "profile" not in json.loads(
        pymlk("inspect", "--json", tmp_path / "m.mlk").stdout
    )
