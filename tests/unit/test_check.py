# SPDX-License-Identifier: MIT
"""``pymlk check``: what is wrong on this machine is found, and nothing is changed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.fakesys import POLICY, PROXY_POLICY, FakeSys, model

from pymlk import check
from pymlk.cli import main
from pymlk.emulator import Emulator
from pymlk.loop import Loop
from pymlk.proxy import Feature, Knob
from pymlk.stream import Decision
from pymlk.write import Layer, mlp

Findings = dict[str, list[tuple[str, str]]]


def run(
    fake: FakeSys, capsys: pytest.CaptureFixture[str], root: object = None
) -> tuple[int, Findings]:
    """The exit code, and of each part its findings."""
    args = ["check", str(fake.policy), "--root", str(root or fake.root), "--json"]
    code = main([*args, "--seconds", "0.05"])
    out = capsys.readouterr().out
    found: Findings = {}
    for finding in json.loads(out)["findings"]:
        of = f"{finding['device']}: " if finding["device"] else ""
        found.setdefault(finding["what"], []).append(
            (finding["level"], of + finding["text"])
        )
    problems = sum(
        level == "problem" for all_of in found.values() for level, _ in all_of
    )
    assert json.loads(out)["problems"] == problems
    assert code == (1 if problems else 0)
    return code, found


def test_a_good_policy(fake_sys: FakeSys, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = run(fake_sys, capsys)
    assert code == 0
    assert found["model"][0][0] == "ok"
    assert "FULLY" not in found["model"][0][1]
    assert found["fields"] == [("ok", "vda: all 2 can be read")]
    assert found["knob"] == [("ok", "vda: is 32 now, the default")]
    level, text = found["cost"][0]
    assert level == "ok"
    # the model was asked
    assert "inference 0.0" not in text
    assert fake_sys.value("vda") == 32
    assert main(["check", str(fake_sys.policy), "--root", str(fake_sys.root)]) == 0
    assert "no problems" in capsys.readouterr().out


def test_what_is_the_same_is_said_once(
    fake_sys: FakeSys, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_sys.add("vdb")
    fake_sys.add("vdc", ra=8)
    assert main(["check", str(fake_sys.policy), "--root", str(fake_sys.root)]) == 0
    out = capsys.readouterr().out
    assert "ok      fields: vda vdb vdc: all 2 can be read\n" in out
    assert "ok      knob: vda vdb: is 32 now, the default\n" in out
    assert "notice  knob.default: vdc: is 8 now, but" in out


def test_no_model_yet(fake_sys: FakeSys, capsys: pytest.CaptureFixture[str]) -> None:
    (fake_sys.policy / "model.tflite").unlink()
    code, found = run(fake_sys, capsys)
    assert code == 0
    assert found["model"] == [
        ("notice", "no model.tflite yet: pymlk collect, then pymlk train")
    ]
    # the other checks ran
    assert "fields" in found
    assert "knob" in found
    assert "cost" not in found


def test_a_model_that_does_not_fit(
    fake_sys: FakeSys, capsys: pytest.CaptureFixture[str]
) -> None:
    two = Layer([[1, 1], [1, 1], [1, 1]], [0, 0, 0], [0.01], 0.25, 0, "NONE")
    (fake_sys.policy / "model.tflite").write_bytes(mlp([two], 0.1, 0))
    code, found = run(fake_sys, capsys)
    assert code == 1
    ((level, text),) = found["model"]
    assert level == "problem"
    assert "int8 of 2, expected int8 of 1" in text
    assert "knob" in found


def test_a_wrong_file_is_exit_3(fake_sys: FakeSys) -> None:
    fake_sys.write_policy(POLICY.replace("settle", "setle"))
    assert main(["check", str(fake_sys.policy)]) == 3


def change(old: str, new: str) -> Callable[[FakeSys], None]:
    def do(fake: FakeSys) -> None:
        assert old in POLICY
        fake.write_policy(POLICY.replace(old, new))

    return do


@pytest.mark.parametrize(
    ("do", "level", "what", "text"),
    [
        (
            change('"{device}/stat[0]"', '"{device}/stat[99]"'),
            "problem", "fields.reads", "vda: ",
        ),
        (
            lambda fake: fake.knob("vda").unlink(),
            "problem", "knob.path", "vda: /sys/block/vda/queue/read_ahead_kb: ",
        ),
        (
            lambda fake: fake.knob("vda").write_text("none [mq] bfq\n"),
            "problem", "knob.path", "is no whole number",
        ),
        (
            lambda fake: fake.knob("vda").write_text("4000\n"),
            "notice", "knob.values", "is 4000 now, which is none of",
        ),
        (
            lambda fake: fake.knob("vda").write_text("8\n"),
            "notice", "knob.default", "is 8 now, but the default",
        ),
        (
            lambda fake: shutil.rmtree(fake.root / "sys/block/vda"),
            "problem", "devices", "nothing matches '/sys/block/*'",
        ),
        (change("max_step = 1", "max_step = 2"), "notice", "guard.max_step", "2 lets"),
        (
            change("interval_ms = 10", "interval_ms = 5000"),
            "notice", "trial.period_s", "less than three decisions",
        ),
        (
            change("interval_ms = 10", "interval_ms = 10\n#"),
            "notice", "guard.min_interval_s", "0 s limits nothing",
        ),
        (
            change('[objective]\nmaximise = "reads"', ""),
            "notice", "objective", "--mode always",
        ),
        (
            change("min_confidence = 0.4", "min_confidence = 0.0"),
            "notice", "guard.min_confidence", "refuses nothing",
        ),
        (
            change("std = 10.0", "std = 0.1"),
            "notice", "feature reads_delta", "0 found, but in training it was 100",
        ),
        (
            change('"delta"', '"value"\nclip = [0, 7]'),
            "notice", "feature reads_delta", "upper bound 7 in 100% of rows",
        ),
        (
            change("std = 10.0", "std = 10.0"),
            "notice", "feature", "constant in",
        ),
    ],
)  # fmt: skip
def test_what_is_found(
    fake_sys: FakeSys,
    capsys: pytest.CaptureFixture[str],
    do: Callable[[FakeSys], None],
    level: str,
    what: str,
    text: str,
) -> None:
    do(fake_sys)
    _, found = run(fake_sys, capsys)
    assert any(level == one and text in said for one, said in found[what]), found


def test_a_decision_that_comes_too_late(
    fake_sys: FakeSys,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Slow(Loop):
        def decision(self, i: int) -> Decision:
            found = super().decision(i)
            found.latency_ns += 20_000_000_000
            return found

    monkeypatch.setattr("pymlk.loop.Loop", Slow)
    _, found = run(fake_sys, capsys)
    assert found["cost"][0][0] == "problem"
    assert "more than guard.deadline_us" in found["cost"][0][1]


def test_rivals(fake_sys: FakeSys, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in ((1, "systemd"), (77, "tuned"), (78, "bpftune")):
        (fake_sys.root / "proc" / str(number)).mkdir(parents=True)
        (fake_sys.root / "proc" / str(number) / "comm").write_text(f"{name}\n")
    (fake_sys.root / "proc" / "79").mkdir()
    _, found = run(fake_sys, capsys)
    said = [text for level, text in found["knob"] if level == "notice"]
    assert [text.split()[0] for text in said] == ["bpftune", "tuned"]


def test_a_knob_that_may_not_be_written(
    fake_sys: FakeSys,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # root may write all of a plain file system
    def access(path: str, mode: int) -> bool:
        assert mode == os.W_OK
        return False

    monkeypatch.setattr(check.os, "access", access)
    _, found = run(fake_sys, capsys)
    assert "may not be written by this user" in found["knob.path"][0][1]


def test_a_model_in_the_kernel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeSys(tmp_path)
    fake.write_policy(PROXY_POLICY)
    with Emulator(tmp_path / "kernel") as kernel:
        _, found = run(fake, capsys, kernel.root)
        assert "the kernel has no model 'test/*'" in found["proxy"][0][1]
        knob = Knob("ra", "KiB", 8, 64, 8, 64)
        kernel.register("test", "one", [Feature("reads")], [knob])
        kernel.register("test", "two", [Feature("writes")], [])
        code, found = run(fake, capsys, kernel.root)
    assert code == 1
    problems: dict[str, Any] = {
        what: text for what, all_of in found.items() for level, text in all_of
        if level == "problem"
    }  # fmt: skip
    assert "test/two: has no feature 'reads'" in problems["fields.reads"]
    assert "test/one: 128 found, it can have 8 to 64" in problems["knob.values"]
    assert "test/two: has no knob 'ra'" in problems["knob.path"]
    assert found["knob.default"] == [
        ("notice", "test/one: 32 found, the kernel's is 64")
    ]
    assert found["proxy"] == [("ok", "test/one: created, mode emergency")]


def test_a_program_s_bound_and_the_deadline(
    fake_sys: FakeSys, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_sys.write_policy(POLICY.replace("deadline_us = 10000000", "deadline_us = 1"))
    (fake_sys.policy / "model.tflite").write_bytes(model())
    _, found = run(fake_sys, capsys)
    assert found["model"][0][0] == "notice"
    assert "which is more than guard.deadline_us, 1" in found["model"][0][1]
