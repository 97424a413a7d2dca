# SPDX-License-Identifier: MIT
"""What only an emulated kernel does: hostile records, several models in one process."""

import random
import signal
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.proxy_run import HIGH, LOW, make_policy

from pymlk.emulator import Emulator, Feature, Knob, Model
from pymlk.policy import load
from pymlk.proxy_loop import ProxyLoop
from pymlk.serve import INTERRUPTED, Server

KNOB = Knob("k0", "KiB", 4, 4096, 4, 128)


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(tmp_path / "kernel") as kernel:
        yield kernel


def register(kernel: Emulator, name: str, subsystem: str = "guest") -> Model:
    model = kernel.register(
        subsystem, name, [Feature("f0"), Feature("f1")], [KNOB], records=64
    )
    for word in ("init", "start", "run"):
        model.control(word)
    model.options["holdout_permil"] = 0
    return model


def spoilt(model: Model, at: int, form: str, value: int) -> None:
    """Write a good sample, then spoil a part of its record."""
    seq = model._ring.write(1, LOW[:2])
    place = 4096 + (seq - 1) % model.records * model.record_bytes
    struct.pack_into(form, model._map, place + at, value)


@pytest.mark.parametrize("mode", ["shadow", "recommendation"])
def test_a_hostile_writer(kernel: Emulator, tmp_path: Path, mode: str) -> None:
    model = register(kernel, "one")
    loop = ProxyLoop(
        load(str(make_policy(tmp_path / "p"))), root=kernel.root, mode=mode
    )
    for n in (0, 1, 3, 5, 7, 64, 1 << 16, (1 << 32) - 1):
        spoilt(model, 20, "<I", n)
    assert loop.step() == 0
    assert loop.look() == ["guest/one: 8 malformed records, left out"]
    assert loop.look() == []
    # unknown kinds are nothing to decide on, and outcomes that are too short
    for kind in (0, 3, 77, (1 << 32) - 1):
        spoilt(model, 16, "<I", kind)
    spoilt(model, 16, "<I", 2)
    # numbers that no record can have
    for seq in (0, 1 << 40, (1 << 64) - 1):
        spoilt(model, 0, "<Q", seq)
    assert loop.step() == 0
    # times from nowhere are only numbers
    decisions = loop.decisions
    for moment in (0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
        spoilt(model, 8, "<Q", moment)
        time.sleep(0.002)
        assert loop.step() == 1
    assert loop.decisions == decisions + 5
    # a head that jumps
    struct.pack_into("<Q", model._map, 24, 1 << 50)
    assert loop.step() == 0
    loop.look()
    assert loop.decision(0).target == 8
    assert loop.close() == []
    assert model.decide().use is False


@pytest.mark.parametrize("seed", range(3))
def test_random_records(kernel: Emulator, tmp_path: Path, seed: int) -> None:
    """Garbage in all of the ring, all the time; then it is itself again."""
    lots = random.Random(seed)
    trial = "[trial]\nmin_decisions = 3\nmin_scores = 3\nperiod_s = 0.1\n[learn]\n"
    model = register(kernel, "one")
    loop = ProxyLoop(
        load(str(make_policy(tmp_path / "p", trial))),
        root=kernel.root,
        highest="recommendation",
        learnt=str(tmp_path / "learnt"),
    )
    for _ in range(300):
        for _ in range(lots.randrange(20)):
            values = [lots.getrandbits(64) - (1 << 63) for _ in range(6)]
            model._ring.write(lots.choice([1, 2, 2, 9]), values[: lots.randrange(7)])
        at = 4096 + 8 * lots.randrange(model.records * model.record_bytes // 8)
        model._map[at : at + 8] = lots.randbytes(8)
        loop.step()
        loop.look()
    model.request_mode(3)
    loop.look()
    end = time.monotonic() + 30
    while loop.decision(0).target != 8:
        assert time.monotonic() < end, loop.decision(0).to_dict()
        model.push(LOW[:2])
        time.sleep(0.002)
        loop.step()
    loop.close()


def test_one_process_serves_many(kernel: Emulator, tmp_path: Path) -> None:
    """Two models of one policy, a third of another; one that ends leaves the others."""
    models = {
        name: register(kernel, name, sub)
        for name, sub in (("one", "guest"), ("two", "guest"), ("three", "other"))
    }
    first = load(str(make_policy(tmp_path / "first")))
    changes = {'"guest/*"': '"other/*"'}
    folder = make_policy(tmp_path / "second")
    text = (folder / "policy.toml").read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / "policy.toml").write_text(text)
    server = Server()
    loops = [
        ProxyLoop(plan, root=kernel.root, mode="recommendation")
        for plan in (first, load(str(folder)))
    ]
    for loop in loops:
        server.add(loop)
    assert [loop.devices for loop in loops] == [
        ("guest/one", "guest/two"),
        ("other/three",),
    ]

    def serve(**rows: tuple[int, ...]) -> dict[str, int]:
        for name, row in rows.items():
            models[name].push(row[:2])
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            place = server.run(end - time.monotonic())
            if place >= 0:
                loops[place].look()
        return {name: models[name].decide().value[0] for name in rows}

    found = serve(one=LOW, two=HIGH, three=LOW)
    assert found == {"one": 8, "two": 128, "three": 8}
    found = serve(one=HIGH, two=LOW, three=HIGH)
    assert found == {"one": 128, "two": 8, "three": 128}
    models["one"].unregister()
    assert loops[0].look()
    assert loops[0].devices == ("guest/two",)
    assert serve(two=HIGH, three=LOW) == {"two": 128, "three": 8}
    for loop in loops:
        assert loop.close() == []
    assert {model.mode for model in models.values()} == {0}


def test_decisions_that_recommend_nothing_keep_the_heartbeat(
    kernel: Emulator, tmp_path: Path
) -> None:
    """Also where there is always a record to decide on."""
    model = register(kernel, "one")
    model.options["deadline_ms"] = 400
    changes = {"interval_ms = 10": "interval_ms = 0", "settle = 1": "settle = 2"}
    loop = ProxyLoop(
        load(str(make_policy(tmp_path / "p", "", **changes))),
        root=kernel.root,
        mode="recommendation",
    )
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        # never the same twice
        model.push((20 if loop.decisions % 2 else 100, 0))
        assert loop.step() == 1
        assert loop.decision(0).reason == "settling"
    assert model.stats["missed"] == 0
    assert model.mode == 3
    loop.close()


def test_a_signal_is_heard_however_busy_it_is(kernel: Emulator, tmp_path: Path) -> None:
    model = register(kernel, "one")
    changes = {"interval_ms = 10": "interval_ms = 0"}
    loop = ProxyLoop(
        load(str(make_policy(tmp_path / "p", "", **changes))), root=kernel.root
    )
    server = Server()
    server.add(loop)
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            model.push(LOW[:2])

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    caught: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: caught.append(number))
    thread = threading.Thread(target=flood)
    thread.start()
    try:
        loop.watching = True
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        end = time.monotonic() + 10
        while not caught and time.monotonic() < end:
            place = server.run(1.0)
            if place >= 0:
                loop.news()
        assert (place, caught) == (INTERRUPTED, [signal.SIGUSR1])
    finally:
        stop.set()
        thread.join()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGUSR1, before)
        loop.close()
