# SPDX-License-Identifier: MIT
"""What does ``import pymlk`` cost over a bare Python, in time and memory?

Every sample is a fresh process without site (``-I -S``), all kinds in turn.
"""

import statistics
import subprocess
import sys
import sysconfig
import time

from common import Bars, Figures
from common import main as run_main

ROUNDS = 60
BARS: Bars = {"import ms": (15.0, "max")}

# Each prints its own peak; the search path is the same for all.
TAIL = """
with open("/proc/self/status") as file:
    print(next(line.split()[1] for line in file if line.startswith("VmHWM")))
"""
KINDS = {
    "bare": "",
    "pymlk": "from pymlk import AttrSet, Model",
    "psutil": "import psutil",
    "numpy": "import numpy",
}


def sample(code: str) -> tuple[float, int]:
    """Milliseconds of the whole process, and its peak memory in KiB."""
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    head = f"import sys; sys.path += {folders!r}\n"
    command = [sys.executable, "-I", "-S", "-c", head + code + TAIL]
    start = time.perf_counter_ns()
    out = subprocess.run(command, check=True, capture_output=True).stdout
    return (time.perf_counter_ns() - start) / 1e6, int(out)


def installed(code: str) -> bool:
    """Can this kind run here at all?"""
    try:
        sample(code)
    except subprocess.CalledProcessError:
        return False
    return True


def run(rounds: int) -> Figures:
    """Run all kinds in turn; medians, and differences to the bare one."""
    kinds = {name: code for name, code in KINDS.items() if installed(code)}
    taken: dict[str, list[tuple[float, int]]] = {name: [] for name in kinds}
    names = list(kinds)
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            taken[name].append(sample(kinds[name]))
    figures: Figures = {"rounds": rounds}
    times = {n: statistics.median(ms for ms, _ in got) for n, got in taken.items()}
    peaks = {n: statistics.median(kib for _, kib in got) for n, got in taken.items()}
    for name in names:
        figures[f"{name} process ms"] = times[name]
        figures[f"{name} peak kib"] = peaks[name]
    for name in names[1:]:
        label = "import" if name == "pymlk" else f"import {name}"
        figures[f"{label} ms"] = times[name] - times["bare"]
        figures[f"{label} kib"] = peaks[name] - peaks["bare"]
    return figures


if __name__ == "__main__":
    sys.exit(run_main((__doc__ or "").splitlines()[0], run, BARS, ROUNDS))
