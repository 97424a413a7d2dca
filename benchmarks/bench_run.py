# SPDX-License-Identifier: MIT
"""What does `pymlk run` cost: memory of the process, heap calls of each stage?

Memory is the loop's own after some decisions, beside a bare ``python3 -I -S``; heap
calls count malloc and its kin of the whole process, Python's own objects included.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from common import Bars, Figures
from common import main as run_main

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.malloc_count import count_mallocs

ROUNDS = 3
BARS: Bars = {
    "run over bare kib": (6144.0, "max"),
    "peak over bare kib": (6144.0, "max"),
    "maps with numpy or tflite": (0.0, "max"),
    "heap calls per snapshot": (0.0, "max"),
    "heap calls per inference": (0.0, "max"),
    "heap calls per decision": (0.0, "max"),
}
TIMES = 2000

SNAPSHOT = """
from pymlk import AttrSet
attrs = AttrSet(["/proc/stat[cpu.0]", "/proc/vmstat[pgfault]", "/proc/loadavg[0]"])
read = attrs.read
"""
INFERENCE = """
from pymlk import Model
from pymlk.policy import load
from pymlk import Program
invoke = Model(Program(load("readahead")["program"])).invoke
"""
DECISION = """
from pymlk.loop import Loop
from pymlk.policy import load
plan = load("readahead")
plan["guard"]["min_activity"] = None
plan["skip"] = []
step = Loop(plan).step
"""


def status(pid: int) -> dict[str, int]:
    """VmRSS and VmHWM of a process in KiB."""
    with open(f"/proc/{pid}/status") as file:
        pairs = (line.split() for line in file if line.startswith("Vm"))
        return {words[0].rstrip(":"): int(words[1]) for words in pairs}


def bare() -> dict[str, int]:
    """The same of a Python that does nothing."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE
    )
    time.sleep(0.3)
    found = status(child.pid)
    child.communicate(b"\n")
    return found


def loop() -> tuple[dict[str, int], int]:
    """The same of a run after some decisions; and how many maps it should not have."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "pymlk", "run", "readahead"],
        stdout=subprocess.DEVNULL,
    )
    time.sleep(2.5)
    found = status(child.pid)
    maps = Path(f"/proc/{child.pid}/maps").read_text()
    child.terminate()
    child.wait()
    return found, maps.count("numpy") + maps.count("tflite")


def run(rounds: int) -> Figures:
    """Take medians of fresh processes, in turn."""
    ours, theirs, maps = [], [], 0
    for _ in range(rounds):
        theirs.append(bare())
        found, foreign = loop()
        ours.append(found)
        maps = max(maps, foreign)

    def median(taken: list[dict[str, int]], key: str) -> int:
        return sorted(entry[key] for entry in taken)[len(taken) // 2]

    base = median(theirs, "VmRSS")
    return {
        "rounds": rounds,
        "bare rss kib": base,
        "run rss kib": median(ours, "VmRSS"),
        "run peak kib": median(ours, "VmHWM"),
        "run over bare kib": median(ours, "VmRSS") - base,
        "peak over bare kib": median(ours, "VmHWM") - base,
        "maps with numpy or tflite": maps,
        "heap calls per snapshot": count_mallocs(SNAPSHOT, "read()", TIMES),
        "heap calls per inference": count_mallocs(INFERENCE, "invoke()", TIMES),
        "heap calls per decision": count_mallocs(DECISION, "step()", TIMES),
    }


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[1])
    sys.exit(run_main((__doc__ or "").splitlines()[0], run, BARS, ROUNDS))
