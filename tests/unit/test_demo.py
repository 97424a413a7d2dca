# SPDX-License-Identifier: MIT
"""The load of `make run`: it says what it does, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def demo(folder: Path, seconds: float, code: str) -> "subprocess.Popen[str]":
    options = ["--seconds", str(seconds), "--megabytes", "8", "--folder", str(folder)]
    return subprocess.Popen(
        [
            *(sys.executable, "-P", ROOT / "scripts/demo.py", *options),
            *(sys.executable, "-u", "-c", code),
        ],
        text=True,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def session(leader: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = entry.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(sid) == leader and state != "Z":
            found.append(int(entry.parent.name))
    return found


def check_gone(process: "subprocess.Popen[str]", folder: Path) -> None:
    until = time.monotonic() + 10
    while session(process.pid):
        assert time.monotonic() < until, "a process stayed"
        time.sleep(0.05)
    assert list(folder.glob("*")) == []


def test_phases_and_status(tmp_path: Path) -> None:
    process = demo(tmp_path, 0.6, "import time; time.sleep(1); raise SystemExit(7)")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 7
    assert out.index("now sequential reads") < out.index("now random 4 KB reads")
    assert "done" in out
    check_gone(process, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C goes to all, a kill only to the demo: nothing stays in any case."""
    code = (
        "import time\ntry:\n print('ready')\n time.sleep(3)\n"
        "except KeyboardInterrupt:\n print('summary')\n"
    )
    process = demo(tmp_path, 60, code)
    assert process.stdout
    for line in process.stdout:
        if line == "ready\n":
            break
    # the file has no name from the start
    assert list(tmp_path.glob("*")) == []
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert ("summary" in out) == (number == signal.SIGINT)
    check_gone(process, tmp_path)


def test_no_disk(tmp_path: Path) -> None:
    """Without room for the file the command runs all the same."""
    options = ["--seconds", "1", "--megabytes", "100000000", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-P", ROOT / "scripts/demo.py", *options, "echo", "ran"],
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0
    assert "ran\n" in done.stdout
    assert "none: " in done.stdout
