# SPDX-License-Identifier: MIT
"""Turns of a loop over a kernel's models, given by a server: nothing is allocated."""

import contextlib
import threading
from collections.abc import Iterator

import pytest
from helpers.fakesys import PROXY_POLICY, FakeSys
from helpers.malloc_count import count_mallocs

from pymlk.emulator import Emulator, Model
from pymlk.proxy import Feature, Knob

# Reads are a steady 100 for each sample, on which the model never moves the knob: a
# change is told to people, which allocates.
SETUP = """
import atexit
from pymlk.policy import load
from pymlk.proxy_loop import ProxyLoop
from pymlk.serve import Server
plan = load({policy!r})
plan["interval_ms"] = 0
loop = ProxyLoop(plan, root={root!r}, mode={mode!r})
server = Server()
server.add(loop)
def tell():
    with open({told!r}, "w") as file:
        file.write(str(loop.decisions - before))
atexit.register(tell)
while loop.decisions < 3:
    server.run(0.001)
# what is looked at seldom allocates, and is over for a second now
loop.look()
before = loop.decisions
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
    root = fake_sys.root / "kernel"
    told = fake_sys.root / "told"
    setup = SETUP.format(
        policy=str(fake_sys.policy), root=str(root), mode=mode, told=str(told)
    )
    with samples(model):
        assert count_mallocs(setup, "server.run(0.002)", 100, warm=1) == 0
        assert int(told.read_text()) >= 50
        assert count_mallocs(setup, "loop.decision(0)", 100) >= 100
