# SPDX-License-Identifier: MIT
"""What all benchmarks share: interleaved measuring, machine, tables.

A benchmark is a module ``bench_NAME.py`` with ``run(rounds) -> dict`` (figures by
name; the last word of a name is its unit), ``BARS`` (figure to bar and side),
``ROUNDS`` (how many are enough) and ``main()``.

All rivals run in turn within each round, in an order that changes, so that a noisy
neighbour hits all of them; ratios of medians of one run are what counts.
"""

import argparse
import gc
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

Figures = dict[str, Any]
# figure: (bar, "max" or "min")
Bars = Mapping[str, tuple[float, str]]
# Runs that many times and gives nanoseconds per run.
Rival = Callable[[int], float]

UNITS = {"ns", "us", "ms", "s", "kib", "bytes"}


class Spread(NamedTuple):
    """What many rounds of one rival gave."""

    median: float
    minimum: float


def calls(function: Callable[[], object]) -> Rival:
    """Make a rival of a Python call."""

    def measure(inner: int) -> float:
        turns = itertools.repeat(None, inner)
        start = time.perf_counter_ns()
        for _ in turns:
            function()
        return (time.perf_counter_ns() - start) / inner

    return measure


def interleave(
    rivals: Mapping[str, Rival], rounds: int, inner: int
) -> dict[str, Spread]:
    """Run all rivals in every round; medians and minima of the rounds."""
    samples: dict[str, list[float]] = {name: [] for name in rivals}
    names = list(rivals)
    for rival in rivals.values():
        rival(inner)
    gc.disable()
    try:
        for turn in range(rounds):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                samples[name].append(rivals[name](inner))
    finally:
        gc.enable()
    return {
        name: Spread(statistics.median(taken), min(taken))
        for name, taken in samples.items()
    }


def on_cpu(pid: int) -> int:
    """Nanoseconds that a process has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def machine() -> dict[str, Any]:
    """Describe the machine: a figure means little without it."""
    model = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip().lower() in ("model name", "hardware", "cpu model"):
                model = value.strip()
                break
    compiler = subprocess.run(
        [os.environ.get("CC", "cc"), "--version"], text=True, capture_output=True
    ).stdout
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "compiler": compiler.splitlines()[0] if compiler else "none",
    }


def verdict(value: float, bar: float, side: str) -> bool:
    """Is a figure on the right side of its bar?"""
    return value <= bar if side == "max" else value >= bar


def show(title: str, figures: Figures, bars: Bars) -> None:
    """Print the figures with units, then each bar with its mark."""
    print(f"\n{title}")
    width = max((len(name) for name in figures), default=0)
    for name, value in figures.items():
        if name in bars or not isinstance(value, int | float):
            continue
        print(f"  {name:{width}} {value:14,.3f}")
    for name, value in figures.items():
        if not isinstance(value, int | float):
            print(f"  {name:{width}} {value}")
    for name, (bar, side) in bars.items():
        sign = "<=" if side == "max" else ">="
        if name not in figures:
            print(f"  {name:{width}} {'not measured':>14} {sign} {bar:g}")
            continue
        mark = "ok" if verdict(figures[name], bar, side) else "MISSED"
        print(f"  {name:{width}} {figures[name]:14,.3f} {sign} {bar:g} {mark}")


def main(title: str, run: Callable[[int], Figures], bars: Bars, rounds: int) -> int:
    """Run one benchmark from the command line; a missed bar is no error."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    figures = run(options.rounds)
    show(title, figures, bars)
    if options.json:
        write_json(options.json, {"machine": machine(), "figures": figures})
    return 0


def write_json(path: str, data: object) -> None:
    """Write figures for a machine to read; ``-`` is standard output."""
    text = json.dumps(data, indent=1) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
