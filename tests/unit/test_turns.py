# SPDX-License-Identifier: MIT
"""Turns of a loop over a kernel's models, given by a server: nothing is allocated."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fakesys import PROXY_POLICY, FakeSys
from helpers.malloc_count import count_mallocs

from pymlk.emulator import Emulator, Model
from pymlk.proxy import Feature, Knob

# Reads are a steady 100 for each sample, on which the model never moves the knob: a
# change is told to people, which allocates.
SETUP = """
from pymlk.policy import load
from pymlk.proxy_loop import ProxyLoop
from pymlk.serve import Server
plan = load({policy!r})
plan["interval_ms"] = 0
loop = ProxyLoop(plan, root={root!r}, mode={mode!r})
server = Server()
server.add(loop)
def turns():
    before = loop.decisions
    while loop.decisions < before + 3:
        server.run(0.001)
loop.look()
turns()
loop.look()
"""


@pytest.fixture
def model(fake_sys: FakeSys) -> Iterator[Model]:
    """A model of a kernel, in this process; the loop is in another one."""
    fake_sys.write_policy(PROXY_POLICY)
    with Emulator(fake_sys.root / "kernel") as kernel:
        model = kernel.register(
            "test", "one", [Feature("reads")], [Knob("ra", "", 8, 128, 8, 32)]
        )
        for word in ("init", "start", "run"):
            model.control(word)
        yield model


@contextlib.contextmanager
def samples(model: Model) -> Iterator[None]:
    """Two thousand a second."""
    enough = threading.Event()

    def push() -> None:
        reads = 0
        while not enough.wait(0.0005):
            reads += 100
            model.push([reads])

    thread = threading.Thread(target=push)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


@pytest.mark.parametrize("mode", ["shadow", "recommendation"])
def test_turns_allocate_nothing(fake_sys: FakeSys, model: Model, mode: str) -> None:
    root: Path = fake_sys.root / "kernel"
    setup = SETUP.format(policy=str(fake_sys.policy), root=str(root), mode=mode)
    with samples(model):
        found = {
            work: count_mallocs(setup, work, 100, warm=1)
            for work in ("server.run(0.002)", "turns()", "loop.decision(0)")
        }
    assert found["loop.decision(0)"] > 100
    # the time until a second look, and the count of decisions as a Python number
    assert found["server.run(0.002)"] == 0
