# SPDX-License-Identifier: MIT
"""Is `mlk_program_cost()` an upper bound of what runs take here, and how far off?

Over the fuzzers' programs, which have each operator, and all models of the test data:
the time of a run in plain C, and with the best vector loops, over the bound for a core
of 1 GHz. The largest ratio times that speed is a speed to give for this machine.
"""

import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from bench_engine import pin
from common import Bars, Figures
from common import main as run_main

from pymlk import Program
from pymlk.engine import Profiler, instruction_sets

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.reference import ROOT, compiled

ROUNDS = 5
BATCH_NS = 20_000
BARS: Bars = {"c longest over bound": (1.0, "max")}


def programs() -> Iterator[tuple[str, Program]]:
    """All programs there are, with a name."""
    for path in sorted((ROOT / "tests" / "fuzz" / "corpus").glob("*.mlk")):
        yield path.stem, Program(path.read_bytes())
    for name, program in compiled("models"):
        yield name, Program(program)


def nanoseconds(program: Program, rounds: int) -> float:
    """Median of one run."""
    profiler = Profiler(program)
    times = 1
    while times < 1 << 16 and (
        profiler.measure(profiler.first, profiler.end, times) < BATCH_NS
    ):
        times *= 2
    taken = (
        profiler.measure(profiler.first, profiler.end, times) for _ in range(rounds)
    )
    return statistics.median(taken) / times


def run(rounds: int) -> Figures:
    """Ratios of runs to their bounds, for plain C and the best loops."""
    found = list(programs())
    figures: Figures = {"rounds": rounds, "programs": len(found)}
    for cpu in dict.fromkeys(
        ("c", os.environ.get("PYMLK_CPU") or instruction_sets()[0])
    ):
        with pin(cpu):
            ratios = {
                name: nanoseconds(program, rounds) / program.cost()
                for name, program in found
            }
        longest = max(ratios, key=ratios.__getitem__)
        figures[f"{cpu} longest over bound"] = ratios[longest]
        figures[f"{cpu} median over bound"] = statistics.median(ratios.values())
        figures[f"{cpu} longest is"] = longest
    return figures


if __name__ == "__main__":
    sys.exit(run_main((__doc__ or "").splitlines()[0], run, BARS, ROUNDS))
