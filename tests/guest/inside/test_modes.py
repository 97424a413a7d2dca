# SPDX-License-Identifier: MIT
"""Modes, the guard and the score: who decides, and what is done to the answer."""

import errno
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.mlk_abi import (
    ARM_DEFAULT,
    ARM_FALLBACK,
    ARM_MODEL,
    ARM_NONE,
    BOUNDED,
    GOOD,
    MODES,
    NONE,
    OUTCOME,
    RATE,
    STALE,
    STATES,
    STEPPED,
    UNSURE,
    Device,
    Proxy,
    client,
    numbers,
    refused,
)

DEFAULTS = [128, 0]


@pytest.fixture
def owner(proxy: Proxy) -> Iterator[Device]:
    """A running model, and its owner, who has all the time of the world."""
    proxy.to("running")
    proxy["options/deadline_ms"] = 0
    proxy["options/holdout_permil"] = 0
    with Device(proxy) as device:
        device.own()
        yield device


def test_only_a_running_model_has_modes(proxy: Proxy) -> None:
    for state in STATES:
        proxy.to(state)
        proxy["mode"] = "emergency"
        for mode in MODES[1:]:
            if state == "running":
                proxy["mode"] = mode
                assert proxy["mode"] == mode
            else:
                with refused(errno.EBUSY):
                    proxy["mode"] = mode
                assert proxy["mode"] == "emergency"


def test_emergency_asks_nobody(proxy: Proxy, owner: Device) -> None:
    owner.advise(256, 5)
    decision = proxy.decide()
    assert (decision["use"], decision["arm"]) == (False, ARM_NONE)
    assert proxy.stat("decisions") == 0
    assert proxy["knobs/k0"] == "128"


def test_learning_applies_the_default_and_records_the_answer(
    proxy: Proxy, owner: Device
) -> None:
    proxy["mode"] = "learning"
    owner.advise(256, 5)
    (seq,) = numbers("push 1 2 3 4")
    decision = proxy.decide(seq=seq)
    assert decision == {
        "use": False,
        "arm": ARM_DEFAULT,
        "verdict": GOOD,
        "seq": seq,
        "value": DEFAULTS,
        "advice": [256, 5],
    }
    client("report 77")
    number, _, kind, values = owner.read()[-1]
    assert (number, kind) == (seq + 1, OUTCOME)
    assert values == [seq, ARM_DEFAULT, GOOD, 77, *DEFAULTS, 256, 5]


def test_recommendation_follows(proxy: Proxy, owner: Device) -> None:
    proxy["mode"] = "recommendation"
    owner.advise(256, 5)
    decision = proxy.decide()
    assert decision["use"] is True
    assert decision["value"] == [256, 5]
    assert proxy["knobs/k0"] == "256"
    assert proxy["knobs/k1"] == "5"
    proxy["mode"] = "emergency"
    assert [proxy.number("knobs/k0"), proxy.number("knobs/k1")] == DEFAULTS


@pytest.mark.parametrize(
    ("mode", "option", "permil", "part"),
    [
        ("collaboration", "collaboration_permil", 500, 0.5),
        ("collaboration", "collaboration_permil", 100, 0.1),
        ("collaboration", "collaboration_permil", 0, 0),
        ("collaboration", "collaboration_permil", 1000, 1),
        ("recommendation", "holdout_permil", 50, 0.95),
        ("recommendation", "holdout_permil", 1000, 0),
        ("recommendation", "holdout_permil", 0, 1),
    ],
)
def test_a_part_of_the_decisions_follows(
    proxy: Proxy, owner: Device, mode: str, option: str, permil: int, part: float
) -> None:
    proxy[f"options/{option}"] = permil
    proxy["options/min_samples"] = 1 << 20
    proxy["mode"] = mode
    owner.advise(256, 5)
    count = 10000
    none, default, model, fallback = numbers(f"rounds {count} 10 10")
    assert none == fallback == 0
    assert default + model == count
    # ten times the standard deviation of a fair lot
    assert abs(model - part * count) <= 10 * (count * part * (1 - part)) ** 0.5
    assert proxy.stat("decisions") == count
    assert proxy.stat("followed") == model
    assert proxy.stat("held_out") == default


def test_without_an_answer_the_default_decides(proxy: Proxy, owner: Device) -> None:
    proxy["mode"] = "recommendation"
    decision = proxy.decide()
    assert (decision["use"], decision["arm"]) == (False, ARM_FALLBACK)
    assert (decision["verdict"], decision["value"]) == (NONE, DEFAULTS)
    assert proxy.stat("none") == 1
    assert owner.info().mode == MODES.index("recommendation")


def test_old_answers_are_not_used(proxy: Proxy, owner: Device) -> None:
    proxy["mode"] = "recommendation"
    proxy["options/max_age_ms"] = 50
    owner.advise(256, 5)
    time.sleep(0.08)
    decision = proxy.decide()
    assert (decision["arm"], decision["verdict"]) == (ARM_FALLBACK, STALE)
    owner.advise(252, 5)
    assert proxy.decide()["value"] == [252, 5]
    assert proxy.stat("stale") == 1


def test_unsure_answers_are_not_used(proxy: Proxy, owner: Device) -> None:
    proxy["mode"] = "recommendation"
    proxy["options/min_confidence_permil"] = 700
    owner.advise(256, 5, confidence=699)
    decision = proxy.decide()
    assert (decision["arm"], decision["verdict"]) == (ARM_FALLBACK, UNSURE)
    owner.advise(256, 5, confidence=700)
    assert proxy.decide()["use"] is True
    assert proxy.stat("unsure") == 1


def test_answers_stay_inside_the_limits(proxy: Proxy, owner: Device) -> None:
    proxy["mode"] = "recommendation"
    proxy["knobs/k0_low"] = 64
    proxy["knobs/k0_high"] = 512
    for asked, got in ((4, 64), (4096, 512), (64, 64), (512, 512)):
        owner.advise(asked, 0)
        decision = proxy.decide()
        assert decision["value"] == [got, 0]
        assert decision["verdict"] == (GOOD if asked == got else BOUNDED)
    assert proxy.stat("bounded") == 2


def test_answers_take_steps(proxy: Proxy, owner: Device) -> None:
    proxy["mode"] = "recommendation"
    # 100 is not a whole number of steps of 4; 102 is rounded down to it
    proxy["knobs/k0_change"] = 102
    owner.advise(400, 0)
    values, verdicts = [], []
    for _ in range(4):
        decision = proxy.decide()
        values.append(decision["value"][0])
        verdicts.append(decision["verdict"])
    assert values == [228, 328, 400, 400]
    assert verdicts == [STEPPED, STEPPED, GOOD, GOOD]
    assert proxy.stat("stepped") == 2


def test_answers_keep_their_distance_in_time(proxy: Proxy, owner: Device) -> None:
    proxy["mode"] = "recommendation"
    proxy["knobs/k0_interval_ms"] = 60_000
    owner.advise(256, 0)
    assert proxy.decide()["value"] == [256, 0]
    owner.advise(512, 3)
    decision = proxy.decide()
    assert decision["value"] == [256, 3]
    assert decision["verdict"] == RATE
    assert decision["arm"] == ARM_MODEL
    proxy["knobs/k0_interval_ms"] = 0
    assert proxy.decide()["value"] == [512, 3]
    assert proxy.stat("rate") == 1


def test_promotion_and_demotion_by_score(proxy: Proxy, owner: Device) -> None:
    proxy["options/min_samples"] = 50
    proxy["options/auto_promote"] = 1
    proxy["options/holdout_permil"] = 500
    owner.advise(256, 5)
    proxy["mode"] = "collaboration"

    def until(mode: str, rounds: str) -> None:
        for _ in range(1000):
            client(rounds)
            if proxy["mode"] == mode:
                return
        pytest.fail(f"still {proxy['mode']}")

    # some of these count for the next comparison already: so they are of its size
    until("recommendation", "rounds 10 1000 1100")
    assert proxy["reason"] == "score"
    assert proxy["score/gain_permil"] == "100"
    assert (proxy["score/model_mean"], proxy["score/default_mean"]) == ("1100", "1000")
    # between the thresholds nothing happens
    before = proxy.number("score/comparisons")
    client("rounds 2000 1000 1010")
    client("rounds 2000 1000 990")
    assert proxy["mode"] == "recommendation"
    assert proxy.number("score/comparisons") > before
    until("collaboration", "rounds 10 1000 950")
    assert -100 <= proxy.number("score/gain_permil") < -20
    until("learning", "rounds 10 1000 950")
    assert proxy["reason"] == "score"
    # the default's scores alone promote nothing
    client("rounds 1000 1000 9999")
    assert proxy["mode"] == "learning"


def test_a_bad_score_is_an_emergency(proxy: Proxy, owner: Device) -> None:
    proxy["options/min_samples"] = 50
    proxy["options/holdout_permil"] = 500
    owner.advise(256, 5)
    proxy["mode"] = "recommendation"
    client("rounds 1000 1000 800")
    assert proxy["mode"] == "emergency"
    assert proxy["reason"] == "score"
    assert proxy["knobs/k0"] == "128"


def test_few_scores_change_nothing(proxy: Proxy, owner: Device) -> None:
    proxy["options/holdout_permil"] = 500
    proxy["options/min_samples"] = 100
    owner.advise(256, 5)
    proxy["mode"] = "recommendation"
    client("rounds 100 1000 -1000000")
    assert proxy["mode"] == "recommendation"
    assert proxy["score/comparisons"] == "0"


def test_shadow_scores_promote_from_learning(proxy: Proxy, owner: Device) -> None:
    proxy["options/min_samples"] = 3
    proxy["options/auto_promote"] = 1
    owner.advise(256, 5)
    proxy["mode"] = "learning"
    for _ in range(3):
        proxy.decide()
        client("shadow 120")
        client("report 100")
    assert proxy["mode"] == "collaboration"
    assert proxy["score/gain_permil"] == "200"


@pytest.mark.parametrize("score", [0, 1, -1, (1 << 63) - 1, -(1 << 63)])
def test_extreme_scores(proxy: Proxy, owner: Device, score: int) -> None:
    proxy["options/min_samples"] = 10
    proxy["options/holdout_permil"] = 500
    proxy["options/fail_permil"] = -1000
    owner.advise(256, 5)
    proxy["mode"] = "recommendation"
    client(f"rounds 100 {score} {score}")
    assert proxy.number("score/comparisons") > 0
    assert proxy["score/gain_permil"] == "0"
    client(f"rounds 100 {score} {-score if score > -(1 << 63) else 1}")
    assert proxy["state"] == "running"


def test_refused_recommendations_in_a_row(proxy: Proxy, owner: Device) -> None:
    proxy["mode"] = "recommendation"
    proxy["options/max_refused"] = 3
    for turn in range(2):
        with refused(errno.ERANGE):
            owner.advise(257, 0)
        with refused(errno.ERANGE):
            owner.advise(256, 101)
        assert proxy["mode"] == "recommendation"
        if not turn:
            owner.advise(256, 0)
    with refused(errno.ERANGE):
        owner.advise(8192, 0)
    assert proxy["mode"] == "emergency"
    assert proxy["reason"] == "guard"
    assert proxy.stat("refused") == 5


def test_the_client_can_ask_for_emergency(proxy: Proxy, owner: Device) -> None:
    proxy["mode"] = "recommendation"
    before = numbers("calls")[5]
    client("emergency")
    assert proxy["mode"] == "emergency"
    assert proxy["reason"] == "client"
    for _ in range(200):
        calls = numbers("calls")
        if calls[5] == before + 1:
            break
        time.sleep(0.01)
    assert calls[5:] == [before + 1, 9]


def test_a_change_is_a_uevent(proxy: Proxy) -> None:
    proxy.to("running")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15) as events:
        events.bind((0, 1))
        events.settimeout(5)
        proxy["mode"] = "learning"
        fields = {}
        while fields.get("MLK_MODEL") != proxy.name:
            lines = events.recv(8192).decode().split("\0")
            fields = dict(line.split("=", 1) for line in lines if "=" in line)
    assert fields["ACTION"] == "change"
    assert fields["MLK_STATE"] == "running"
    assert fields["MLK_MODE"] == "learning"
    assert fields["MLK_REASON"] == "request"
    assert fields["DEVPATH"] == f"/kernel/mlk/guest/{proxy.name}"


def test_a_change_is_a_trace_event(proxy: Proxy, owner: Device) -> None:
    tracing = Path("/sys/kernel/tracing")
    switch = tracing / "events" / "mlk" / "enable"
    switch.write_text("1")
    try:
        proxy["mode"] = "recommendation"
        owner.advise(256, 5)
        proxy.decide()
        text = (tracing / "trace").read_text()
    finally:
        switch.write_text("0")
    names = {path.name for path in (tracing / "events" / "mlk").iterdir()}
    for event in ("mlk_mode", "mlk_recommendation", "mlk_decision"):
        assert event in names
        assert any(
            f"{event}:" in line and "guest0" in line for line in text.split("\n")
        )
