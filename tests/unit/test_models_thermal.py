# SPDX-License-Identifier: MIT
"""The thermal policy on emulated boards: in virtual time, and as a live loop."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


sys.path[:0] = [str(CHECKOUT / "benchmarks"), str(CHECKOUT / "models/thermal")]
import bench_thermal as study  # noqa: E402
import board as emulation  # noqa: E402


def test_more_work_than_any_rule_on_a_board_that_it_has_not_seen() -> None:
    kind = emulation.BOARDS["closed"]
    work = {
        name: study.play(control(), kind, "bursts", 1).work
        for name, control in study.controllers().items()
    }
    limit = work.pop(study.LIMIT)
    thermal = work.pop("thermal")
    assert limit >= thermal > max(work.values())


def test_forecast_is_what_happens() -> None:
    board = emulation.Emulated(emulation.BOARDS["fanless"])
    for _ in range(200):
        board.tick(0.3)
    board.state = 1
    told = board.hottest(1)
    seen = []
    for _ in range(60):
        board.tick(1.0)
        seen.append(board.die)
    assert max(seen) == pytest.approx(told)


def test_firmware_saves_the_board() -> None:
    board = emulation.Emulated(emulation.BOARDS["hot-room"])
    for _ in range(6000):
        board.tick(1.0)
        assert board.die < emulation.HOT_C + 3
    assert board.times_forced > 5


def test_live(tmp_path: Path) -> None:
    text = (CHECKOUT / "models/thermal/policy.toml").read_text()
    text = text.replace("/sys/class/thermal", str(tmp_path / "board"))
    text = text.replace("/proc/uptime", str(tmp_path / "board/uptime"))
    text = text.replace("interval_ms = 500", "interval_ms = 100")
    policy = tmp_path / "policy.toml"
    policy.write_text(text)
    model = CHECKOUT / "models/thermal/model.tflite"
    (tmp_path / "model.tflite").write_bytes(model.read_bytes())
    script = CHECKOUT / "models/thermal/board.py"
    board = subprocess.Popen(
        [
            *[sys.executable, script, tmp_path / "board", "--board", "fanless"],
            *["--load", "steady", "--seconds", "4"],
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    knob = emulation.files(tmp_path / "board")[1]
    while not knob.exists():
        assert board.poll() is None
    done = subprocess.run(
        [
            *[sys.executable, "-m", "pymlk", "run", policy, "--apply", "--json"],
            *["--mode", "always", "--seconds", "3"],
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYMLK_STATE_DIR": str(tmp_path / "run")},
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    reasons = {line["decision"]["reason"] for line in lines if "decision" in line}
    assert {"applied", "same"} <= reasons
    assert knob.read_text().strip() == "0"
    assert "work 0." in board.communicate()[0]
