# SPDX-License-Identifier: MIT
"""The loop over kernel models at its ordinary work."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.fakesys import POLICY, FakeSys
from helpers.kernels import Kernel
from helpers.proxy_run import HIGH, LOW, PATIENCE, TRIAL, make_policy, until

from pymlk.journal import Journal
from pymlk.loop import Loop
from pymlk.policy import load
from pymlk.proxy import Proxy
from pymlk.proxy_loop import ProxyLoop
from pymlk.serve import Server
from pymlk.stream import Decision
from pymlk.write import Layer, mlp

ARM_MODEL = 2

Maker = Callable[..., ProxyLoop]


@pytest.fixture
def make(kernel: Kernel, running: Proxy, tmp_path: Path) -> Iterator[Maker]:
    """Makes loops over the guest's model; they are closed at the end."""
    loops = []

    def make(more: str = "", changes: dict[str, str] | None = None, **how: str):  # type: ignore[no-untyped-def]
        policy = make_policy(tmp_path / "policy", more, **(changes or {}))
        how = {"mode": "recommendation", "learnt": str(tmp_path / "learnt"), **how}
        loops.append(ProxyLoop(load(str(policy)), root=kernel.root, **how))
        return loops[-1]

    yield make
    for loop in loops:
        loop.close()


def decide(loop: ProxyLoop, kernel: Kernel, *row: int) -> Decision:
    """The loop's next decision, on that row."""
    seq = kernel.push(*row)
    until(lambda: loop.step(), "no decision")
    d = loop.decision(0)
    assert d.seq == seq
    return d


def test_decisions_are_those_of_attributes(
    make: Maker, kernel: Kernel, tmp_path: Path
) -> None:
    """The same policy, fed the same numbers by files and by a dataset."""
    fake = FakeSys(tmp_path / "fake")
    fake.add("vda", ra=128)
    settled = "settle = 2"
    text = POLICY.replace("default = 32", "default = 128")
    fake.write_policy(text.replace("settle = 1", settled))
    journal = Journal("test", str(fake.state))
    attrs = Loop(
        load(str(fake.policy)), root=str(fake.root), apply=True, journal=journal
    )
    journal.claim(attrs.knobs)
    proxies = make(
        changes={
            'reads = "f0"': 'reads = "f1"',
            '"value"': '"delta"',
            "max_step = 2": "max_step = 1",
            "settle = 1": settled,
        }
    )
    rows = [0, 100, 20, 20, 20, 180, 20, 180, 180, 101, 102, 250, 60, 61, *[20] * 6]
    reasons = set()
    for reads in rows:
        fake.load("vda", reads)
        attrs.step()
        expected = attrs.decision(0)
        found = decide(proxies, kernel, 5, fake.reads["vda"], 0, 0)
        for name in (
            *("recommended", "current", "target", "confidence", "reason", "features"),
        ):
            assert getattr(found, name) == getattr(expected, name), (name, reads)
        reasons.add(found.reason)
    assert reasons >= {"warming-up", "applied", "same", "settling"}
    attrs.close()


def test_a_recommendation_reaches_the_client(
    make: Maker, kernel: Kernel, running: Proxy
) -> None:
    loop = make()
    assert loop.devices == ("guest/guest0",)
    assert running.mode == "recommendation"
    for row, value in ((LOW, 8), (HIGH, 128), (LOW, 8)):
        d = decide(loop, kernel, *row)
        assert (d.reason, d.target, d.mode) == ("applied", value, "recommendation")
        decision = kernel.decide(seq=d.seq)
        assert (decision.use, decision.arm) == (True, ARM_MODEL)
        # the other knob stays at its default
        assert decision.value == [value, 0]
    assert decide(loop, kernel, *LOW).reason == "same"
    assert loop.decisions == 4
    assert loop.close() == []
    assert (running.mode, running.reason) == ("emergency", "owner")
    assert loop.close() == []


def test_shadow_asks_and_tells_nothing(
    make: Maker, kernel: Kernel, running: Proxy
) -> None:
    loop = make(mode="shadow")
    d = decide(loop, kernel, *LOW)
    assert (d.reason, d.target, d.mode) == ("would-apply", 8, "shadow")
    assert (running.mode, running.read_attr("owner")) == ("emergency", "0")
    assert running.read_attr("stats/recommendations") == "0"


def test_only_the_newest_sample_counts(make: Maker, kernel: Kernel) -> None:
    loop = make()
    kernel.flood(1000)
    d = decide(loop, kernel, *LOW)
    assert (loop.decisions, d.target) == (1, 8)


def test_a_server_sleeps_while_nothing_comes(
    make: Maker, kernel: Kernel, running: Proxy
) -> None:
    """And lets signals in: a reader has nothing to do at all, an owner beats."""
    for mode in ("shadow", "recommendation"):
        server = Server()
        loop = make(mode=mode)
        server.add(loop)
        kernel.push(*LOW)
        end = time.monotonic() + 3.0
        before = time.process_time()
        while time.monotonic() < end:
            if server.run(end - time.monotonic()) >= 0:
                loop.look()
        assert loop.decisions == 1
        turns = loop.latencies[0].count
        assert turns < 100, f"{turns} turns, {time.process_time() - before} s"
        loop.close()


def rounds_until(
    loop: ProxyLoop, kernel: Kernel, running: Proxy, mode: str, worth: int
) -> None:
    """Decisions of the client whose default is worth about 100, until the mode is."""
    end = time.monotonic() + PATIENCE
    while running.mode != mode:
        assert time.monotonic() < end, loop.totals()
        decide(loop, kernel, *LOW)
        for _ in range(4):
            noise = random.randint(-10, 10)
            kernel.rounds(1, 100 + noise, worth + noise)
        time.sleep(0.002)
        loop.step()
        loop.look()


def test_evidence_leads_up_and_down(
    make: Maker, kernel: Kernel, running: Proxy
) -> None:
    running.write_attr("options/min_samples", 1 << 20)
    running.write_attr("options/holdout_permil", 300)
    loop = make(TRIAL, highest="recommendation")
    assert running.mode == "learning"
    rounds_until(loop, kernel, running, "collaboration", 200)
    rounds_until(loop, kernel, running, "recommendation", 200)
    trial = loop.totals()["guest/guest0"]["trial"]
    assert (trial["mode"], trial["gain"] > 0.5, trial["low"] > 0) == (
        "recommendation",
        True,
        True,
    )
    rounds_until(loop, kernel, running, "learning", 50)
    trial = loop.totals()["guest/guest0"]["trial"]
    assert trial["mode"] == "learning"
    assert "back to learning" in trial["reason"]
    assert not kernel.decide().use


def test_no_further_than_wanted(make: Maker, kernel: Kernel, running: Proxy) -> None:
    loop = make(TRIAL, highest="learning")
    for _ in range(20):
        decide(loop, kernel, *LOW)
        loop.look()
    assert running.mode == "learning"


def test_a_late_owner_begins_anew(make: Maker, kernel: Kernel, running: Proxy) -> None:
    """After an emergency that is over: in the first mode, with new evidence."""
    loop = make(TRIAL, highest="recommendation")
    rounds_until(loop, kernel, running, "collaboration", 200)
    running.write_attr("options/deadline_ms", 1)
    until(lambda: running.mode == "emergency" or kernel.decide().use is None, "no end")
    running.write_attr("options/deadline_ms", 0)
    said = loop.look()
    assert said == [
        "guest/guest0: mode collaboration -> emergency (reason: heartbeat)",
        "guest/guest0: mode learning again",
    ]
    assert running.mode == "learning"
    assert loop.totals()["guest/guest0"]["trial"]["mode"] == "learning"


def test_a_model_that_comes_back_begins_anew(
    make: Maker, kernel: Kernel, proxy: Proxy, running: Proxy
) -> None:
    loop = make(TRIAL, highest="recommendation")
    rounds_until(loop, kernel, running, "collaboration", 200)
    proxy.close()
    kernel.unregister()
    (said,) = loop.look()
    assert said.startswith("guest/guest0: ")
    assert loop.devices == ()
    kernel.register("guest0", 4, 2, 64)
    assert loop.rescan()
    assert loop.devices == ("guest/guest0",)
    with Proxy("guest0", root=kernel.root) as again:
        assert (again.state, again.mode) == ("running", "learning")
        assert loop.totals()["guest/guest0"]["trial"]["mode"] == "learning"
        rounds_until(loop, kernel, again, "collaboration", 200)


def test_outcomes_teach(kernel: Kernel, running: Proxy, tmp_path: Path) -> None:
    """The client is better off with 8 where the shipped model recommends 128."""
    running.write_attr("options/min_samples", 1 << 20)
    folder = make_policy(tmp_path, TRIAL + "[learn]\nevery = 50\nepsilon = 0.4\n")
    # not so sure of itself that nothing could teach it
    layer = Layer([[-20], [0], [20]], [0, 640, 0], [0.01], 0.25, 0, "NONE")
    (folder / "model.tflite").write_bytes(mlp([layer], 0.125, 0))
    loop = ProxyLoop(
        load(str(folder)),
        root=kernel.root,
        highest="collaboration",
        learnt=str(folder / "learnt"),
    )
    adaptation = loop.adaptation
    assert adaptation is not None
    said: list[str] = []
    end = time.monotonic() + PATIENCE
    while adaptation.learner.updates < 600:
        assert time.monotonic() < end, (adaptation.learner.updates, said)
        d = decide(loop, kernel, *HIGH)
        found = kernel.decide(seq=d.seq)
        kernel.report(random.randint(95, 105) * (3 if found.value[0] == 8 else 1))
        loop.step()
        said += loop.look()
    gains = adaptation.learner.gains(bytes([127]))
    assert gains[0] == max(gains), (gains, said)
    assert any(text.startswith("version 1: learnt from") for text in said), said
    assert loop.close() == []
    assert (folder / "learnt" / "test.learnt").exists()


def test_totals_outlive_the_loop(make: Maker, kernel: Kernel) -> None:
    """What is printed at the end is printed after the models were given back."""
    loop = make()
    decide(loop, kernel, 0, 0, 0, 0)
    assert loop.close() == []
    assert loop.devices == ()
    assert loop.totals()["guest/guest0"]["decisions"] == 1
