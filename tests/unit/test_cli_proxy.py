# SPDX-License-Identifier: MIT
"""``pymlk proxy``: models of a kernel, here an emulated one."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from pymlk.emulator import Emulator, Model
from pymlk.proxy import Feature, Knob


def pymlk(kernel: Emulator, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "pymlk", "proxy", *args]
    return subprocess.run(
        [*command, "--root", kernel.root],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def kernel() -> Iterator[Emulator]:
    with Emulator() as kernel:
        yield kernel


@pytest.fixture
def model(kernel: Emulator) -> Model:
    features = [Feature("queued", "", "gauge", 0, 64), Feature("late", "us", "counter")]
    return kernel.register(
        "test", "batching", features, [Knob("batch", "KiB", 1, 64, 1, 8)], records=8
    )


def test_a_list(kernel: Emulator, model: Model) -> None:
    kernel.register("test", "another", [Feature("x")], [])
    done = pymlk(kernel)
    assert done.returncode == 0
    head, first, second = done.stdout.splitlines()
    assert head.split() == ["model", "state", "mode", "reason", "owner"]
    assert first.split() == ["test/another", "created", "emergency", "new", "0"]
    assert second.startswith("test/batching ")
    entries = json.loads(pymlk(kernel, "--json").stdout)
    assert [entry["name"] for entry in entries] == ["test/another", "test/batching"]
    assert entries[0]["state"] == "created"


def test_nothing_is_exit_1(kernel: Emulator) -> None:
    done = pymlk(kernel)
    assert done.returncode == 1
    assert "is mlk.ko loaded" in done.stderr
    assert pymlk(kernel, "--json").stdout == "[]\n"


def test_one(kernel: Emulator, model: Model) -> None:
    done = pymlk(kernel, "batching")
    assert done.returncode == 0, done.stderr
    for words in ("queued", "late", "batch", "KiB", "gain_permil", "created"):
        assert words in done.stdout
    facts = json.loads(pymlk(kernel, "test/batching", "--json").stdout)
    assert facts["features"][1] == {
        "name": "late",
        "unit": "us",
        "kind": "counter",
        "low": -(1 << 63),
        "high": (1 << 63) - 1,
    }
    assert facts["knobs"][0]["value"] == facts["knobs"][0]["default"] == 8
    assert facts["score"]["comparisons"] == 0
    assert (facts["owner"], facts["records"]) == (0, 8)


def test_states_and_modes(kernel: Emulator, model: Model) -> None:
    changes = ("--control", "init", "start", "run", "--mode", "learning")
    done = pymlk(kernel, "batching", *changes)
    assert (done.returncode, done.stdout) == (0, "")
    assert (model.state, model.mode) == (3, 1)
    done = pymlk(kernel, "batching", "--control", "start")
    assert done.returncode == 4
    assert "in state running" in done.stderr
    assert pymlk(kernel, "batching", "--control", "begin").returncode == 2
    assert pymlk(kernel, "--mode", "learning").returncode == 2
    done = pymlk(kernel, "nothing")
    assert done.returncode == 4
    assert "there are: test/batching" in done.stderr


def test_records(kernel: Emulator, model: Model) -> None:
    model.control("init")
    model.control("start")
    model.push([1, -2])
    timer = threading.Timer(0.5, model.push, ([3, 4],))
    timer.start()
    done = pymlk(kernel, "batching", "--watch", "--count", "2", "--json")
    timer.join()
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["values"] for line in lines] == [[1, -2], [3, 4]]
    model.flood(20)
    done = pymlk(kernel, "batching", "--watch", "--seconds", "0.1")
    assert done.returncode == 1
    assert "14 records were overwritten" in done.stderr
    assert len(done.stdout.splitlines()) == 1 + 8
