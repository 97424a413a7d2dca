# SPDX-License-Identifier: MIT
"""What does it cost to load a program: map the file, verify it, get an arena?

The program has 50 KB and lies in the page cache. Beside it: the verification alone,
the compiler that a `.mlk` file makes needless, and what LiteRT takes to load the same
model and allocate its tensors.
"""

import sys
import tempfile
from pathlib import Path

from bench_engine import network
from common import Bars, Figures, calls, interleave
from common import main as run_main

from pymlk import Model, Program
from pymlk.compile import compile_model

ROUNDS = 100
INNER = 20
SHAPE = (128, 192, 96, 10)
BARS: Bars = {"program us": (50.0, "max"), "program and model us": (50.0, "max")}


def run(rounds: int) -> Figures:
    """Load the same model in all ways, in turn."""
    data = network(SHAPE)
    program = compile_model(data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mlk"
        path.write_bytes(program)
        rivals = {
            "program": calls(lambda: Program.from_file(path)),
            "program and model": calls(lambda: Model(Program.from_file(path))),
            "verification": calls(lambda: Program(program)),
        }
        try:
            from ai_edge_litert.interpreter import Interpreter

            rivals["litert"] = calls(
                lambda: Interpreter(
                    model_content=data, num_threads=1
                ).allocate_tensors()
            )
        except ImportError:
            print("ai-edge-litert is not installed: no rival", file=sys.stderr)
        got = interleave(rivals, rounds, INNER)
        compiler = interleave({"": calls(lambda: compile_model(data))}, 3, 1)
    figures: Figures = {"rounds": rounds, "program bytes": len(program)}
    figures |= {f"{name} us": spread.median / 1000 for name, spread in got.items()}
    figures["compiler us"] = compiler[""].median / 1000
    return figures


if __name__ == "__main__":
    sys.exit(run_main((__doc__ or "").splitlines()[0], run, BARS, ROUNDS))
