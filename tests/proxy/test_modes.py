# SPDX-License-Identifier: MIT
"""States, modes, the guard and the score: who decides, and what is made of answers."""

import errno
import time
from pathlib import Path

import pytest
from helpers.kernels import Kernel
from helpers.mlk_abi import refused

from pymlk.proxy import MODES, STATES, Proxy

DEFAULTS = [128, 0]
ARM_NONE, ARM_DEFAULT, ARM_MODEL, ARM_FALLBACK = range(4)
GOOD, BOUNDED, STEPPED, RATE, NONE, STALE, UNSURE = range(7)
WAY = {
    "created": (),
    "initialized": ("init",),
    "started": ("init", "start"),
    "running": ("init", "start", "run"),
    "stopped": ("init", "stop"),
}
ALLOWED = {
    ("created", "init"): "initialized",
    ("stopped", "init"): "initialized",
    ("initialized", "start"): "started",
    ("started", "run"): "running",
    ("initialized", "stop"): "stopped",
    ("started", "stop"): "stopped",
    ("running", "stop"): "stopped",
    ("started", "sample"): "started",
    ("running", "sample"): "running",
} | {(state, "discard"): state for state in WAY}


def picture(kernel: Kernel) -> dict[str, str]:
    """All readable text files."""
    top = Path(kernel.root, "sys/kernel/mlk/guest/guest0")
    return {
        str(path.relative_to(top)): path.read_text()
        for path in top.rglob("*")
        if path.is_file() and path.name not in ("control", "dataset", "program")
    }


@pytest.mark.parametrize(
    "command", ["init", "start", "run", "stop", "sample", "discard"]
)
@pytest.mark.parametrize("state", STATES[:5])
def test_each_command_in_each_state(
    kernel: Kernel, proxy: Proxy, state: str, command: str
) -> None:
    for word in WAY[state]:
        proxy.control(word)
    assert proxy.state == state
    after = ALLOWED.get((state, command))
    if after:
        proxy.control(command)
        assert proxy.state == after
        return
    before = picture(kernel)
    with refused(errno.EBUSY):
        proxy.control(command)
    assert picture(kernel) == before


@pytest.mark.parametrize("word", ["", "ini", "INIT", "init x", "initialize", "destroy"])
def test_words_are_compared_as_a_whole(proxy: Proxy, word: str) -> None:
    with refused(errno.EINVAL):
        proxy.control(word)
    assert proxy.state == "created"


def test_the_client_may_refuse(kernel: Kernel, proxy: Proxy) -> None:
    kernel.refuse(errno.ENOMEM)
    before = picture(kernel)
    with refused(errno.ENOMEM):
        proxy.control("init")
    assert picture(kernel) == before
    kernel.refuse(0)
    proxy.control("init")


def test_every_file_is_there(kernel: Kernel, proxy: Proxy) -> None:
    """The same names in both kernels, and the same first texts."""
    knobs = {
        f"knobs/k{i}{part}"
        for i in range(2)
        for part in ("", "_type", "_low", "_high", "_change", "_interval_ms")
    }
    found = picture(kernel)
    here = {name for name in found if "/" not in name}
    assert here == {
        "state",
        "mode",
        "reason",
        "owner",
        "program_id",
        "program_diag",
    }
    assert {name for name in found if name.startswith("knobs/")} == knobs
    assert {n for n in found if n.startswith("features/")} == {
        f"features/f{i}_type" for i in range(4)
    }
    score = (
        "default_samples model_samples default_mean model_mean gain_permil comparisons"
    )
    assert {n for n in found if n.startswith("score/")} == {
        f"score/{name}" for name in score.split()
    }
    assert sum(name.startswith("options/") for name in found) == 11
    # counters, records and two histograms
    assert sum(name.startswith("stats/") for name in found) == 19 + 1 + 2
    assert all(text.endswith("\n") for text in found.values())
    assert found["features/f0_type"] == "0:gauge:ns:-1000:1000000\n"
    assert found["knobs/k0_type"] == "0:KiB:4:4096:4:128\n"
    assert found["stats/answer_latency"] == " ".join(["0"] * 32) + "\n"


def test_samples_are_taken_only_when_started(kernel: Kernel, proxy: Proxy) -> None:
    assert kernel.push(1, 2, 3, 4) == 0
    proxy.control("init")
    assert kernel.push(1, 2, 3, 4) == 0
    proxy.control("start")
    assert kernel.push(1, 2, 3, 4) == 1
    proxy.control("sample")
    assert proxy.dataset.head == 2
    proxy.control("stop")
    assert kernel.push(1, 2, 3, 4) == 0


def test_init_forgets(kernel: Kernel, owner: Proxy) -> None:
    owner.set_mode("learning")
    kernel.rounds(10, 5, 7)
    assert owner.read_attr("stats/decisions") == "10"
    owner.control("stop")
    assert (owner.mode, owner.reason) == ("emergency", "stop")
    owner.control("init")
    assert owner.read_attr("stats/decisions") == "0"
    assert owner.read_attr("score/default_samples") == "0"
    assert owner.reason == "new"


def test_only_a_running_model_has_modes(proxy: Proxy) -> None:
    for word in ("init", "start", "run", "stop"):
        proxy.set_mode("emergency")
        for mode in MODES[1:]:
            if proxy.state == "running":
                proxy.set_mode(mode)
                assert (proxy.mode, proxy.reason) == (mode, "request")
            else:
                with refused(errno.EBUSY):
                    proxy.set_mode(mode)
        proxy.control(word)
    proxy.own()
    with refused(errno.EBUSY):
        proxy.set_mode("learning")
    with pytest.raises(ValueError, match="'shadow' found"):
        proxy.set_mode("shadow")


def test_emergency_asks_nobody(kernel: Kernel, owner: Proxy) -> None:
    owner.recommend([256, 5])
    decision = kernel.decide()
    assert (decision.use, decision.arm) == (False, ARM_NONE)
    assert owner.read_attr("stats/decisions") == "0"


def test_learning_applies_the_default(kernel: Kernel, owner: Proxy) -> None:
    owner.set_mode("learning")
    owner.recommend([256, 5])
    decision = kernel.decide()
    assert decision == (False, ARM_DEFAULT, GOOD, 0, DEFAULTS, [256, 5])


def test_emergency_sets_the_knobs_back(kernel: Kernel, owner: Proxy) -> None:
    owner.set_mode("recommendation")
    owner.recommend([256, 5])
    assert kernel.decide() == (True, ARM_MODEL, GOOD, 0, [256, 5], [256, 5])
    kernel.emergency()
    assert (owner.mode, owner.reason) == ("emergency", "client")
    assert [owner.read_attr(f"knobs/k{i}") for i in range(2)] == ["128", "0"]
    owner.set_mode("recommendation")
    # what was said before the emergency is not believed
    assert kernel.decide().verdict == NONE


@pytest.mark.parametrize(
    ("mode", "option", "permil", "part"),
    [
        ("collaboration", "collaboration_permil", 500, 0.5),
        ("collaboration", "collaboration_permil", 0, 0),
        ("collaboration", "collaboration_permil", 1000, 1),
        ("recommendation", "holdout_permil", 50, 0.95),
        ("recommendation", "holdout_permil", 1000, 0),
    ],
)
def test_a_part_of_the_decisions_follows(
    kernel: Kernel, owner: Proxy, mode: str, option: str, permil: int, part: float
) -> None:
    owner.write_attr(f"options/{option}", permil)
    owner.write_attr("options/min_samples", 1 << 20)
    owner.set_mode(mode)
    owner.recommend([256, 5])
    count = 2000
    none, default, model, fallback = kernel.rounds(count, 10, 10)
    assert none == fallback == 0
    assert default + model == count
    # ten times the standard deviation of a fair lot
    assert abs(model - part * count) <= 10 * (count * part * (1 - part)) ** 0.5
    assert owner.read_attr("stats/followed") == str(model)
    assert owner.read_attr("stats/held_out") == str(default)


def test_without_an_answer_the_default_decides(kernel: Kernel, owner: Proxy) -> None:
    owner.set_mode("recommendation")
    decision = kernel.decide()
    assert decision == (False, ARM_FALLBACK, NONE, 0, DEFAULTS, DEFAULTS)
    assert owner.read_attr("stats/none") == "1"


def test_old_and_unsure_answers_are_not_used(kernel: Kernel, owner: Proxy) -> None:
    owner.set_mode("recommendation")
    owner.write_attr("options/max_age_ms", 50)
    owner.recommend([256, 5])
    time.sleep(0.08)
    decision = kernel.decide()
    assert (decision.arm, decision.verdict) == (ARM_FALLBACK, STALE)
    owner.write_attr("options/max_age_ms", 0)
    owner.write_attr("options/min_confidence_permil", 700)
    owner.recommend([256, 5], 0.699)
    decision = kernel.decide()
    assert (decision.arm, decision.verdict) == (ARM_FALLBACK, UNSURE)
    owner.recommend([256, 5], 0.7)
    assert kernel.decide().use
    assert owner.read_attr("stats/stale") == owner.read_attr("stats/unsure") == "1"


def test_the_guard(kernel: Kernel, owner: Proxy) -> None:
    owner.set_mode("recommendation")
    owner.write_attr("knobs/k0_low", 64)
    owner.write_attr("knobs/k0_high", 512)
    for asked, got in ((4, 64), (4096, 512), (64, 64)):
        owner.recommend([asked, 0])
        decision = kernel.decide()
        assert decision.value == [got, 0]
        assert decision.verdict == (GOOD if asked == got else BOUNDED)
    # 102 is rounded down to a whole number of steps
    owner.write_attr("knobs/k0_change", 102)
    owner.recommend([400, 0])
    found = [kernel.decide() for _ in range(5)]
    assert [d.value[0] for d in found] == [164, 264, 364, 400, 400]
    assert [d.verdict for d in found] == [STEPPED] * 3 + [GOOD] * 2
    owner.write_attr("knobs/k0_change", 0)
    owner.write_attr("knobs/k0_interval_ms", 60_000)
    owner.recommend([300, 3])
    decision = kernel.decide()
    assert (decision.value, decision.verdict) == ([400, 3], RATE)
    assert decision.arm == ARM_MODEL
    owner.write_attr("knobs/k0_interval_ms", 0)
    assert kernel.decide().value == [300, 3]
    # what was before new bounds is moved inside them, then the step is taken
    owner.write_attr("knobs/k0_change", 100)
    owner.write_attr("knobs/k0_low", 400)
    owner.recommend([512, 3])
    assert kernel.decide().value == [500, 3]


def test_promotion_and_demotion(kernel: Kernel, owner: Proxy) -> None:
    owner.write_attr("options/min_samples", 50)
    owner.write_attr("options/auto_promote", 1)
    owner.write_attr("options/holdout_permil", 500)
    owner.recommend([256, 5])
    owner.set_mode("collaboration")

    def until(mode: str, model: int) -> None:
        for _ in range(1000):
            kernel.rounds(10, 1000, model)
            if owner.mode == mode:
                return
        pytest.fail(f"still {owner.mode}")

    until("recommendation", 1100)
    assert owner.reason == "score"
    assert owner.read_attr("score/gain_permil") == "100"
    assert owner.read_attr("score/model_mean") == "1100"
    assert owner.read_attr("score/default_mean") == "1000"
    until("collaboration", 950)
    until("learning", 950)
    # the default's scores alone promote nothing
    kernel.rounds(200, 1000, 9999)
    assert owner.mode == "learning"


def test_shadow_scores_promote_from_learning(kernel: Kernel, owner: Proxy) -> None:
    owner.write_attr("options/min_samples", 3)
    owner.write_attr("options/auto_promote", 1)
    owner.recommend([256, 5])
    owner.set_mode("learning")
    for _ in range(3):
        kernel.decide()
        kernel.shadow(120)
        kernel.report(100)
    assert owner.mode == "collaboration"
    assert owner.read_attr("score/gain_permil") == "200"


@pytest.mark.parametrize(
    ("default", "model", "gain"), [(1000, 800, -200), (-10, -13, -300)]
)
def test_a_bad_score_is_an_emergency(
    kernel: Kernel, owner: Proxy, default: int, model: int, gain: int
) -> None:
    owner.write_attr("options/min_samples", 20)
    owner.write_attr("options/holdout_permil", 500)
    owner.recommend([256, 5])
    owner.set_mode("recommendation")
    kernel.rounds(500, default, model)
    assert (owner.mode, owner.reason) == ("emergency", "score")
    assert owner.read_attr("score/gain_permil") == str(gain)
    assert owner.read_attr("score/comparisons") == "1"


@pytest.mark.parametrize("score", [0, (1 << 63) - 1, -(1 << 63)])
def test_extreme_scores(kernel: Kernel, owner: Proxy, score: int) -> None:
    owner.write_attr("options/min_samples", 10)
    owner.write_attr("options/holdout_permil", 500)
    owner.recommend([256, 5])
    owner.set_mode("recommendation")
    kernel.rounds(200, score, score)
    assert int(owner.read_attr("score/comparisons")) > 0
    assert owner.read_attr("score/gain_permil") == "0"
