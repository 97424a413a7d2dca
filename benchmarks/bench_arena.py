# SPDX-License-Identifier: MIT
"""How much memory does a model need to run, beside tflite-micro's arena?

The engine's arena is all that a run needs besides the program, which is used in place.
tflite-micro's arena has the activations (its head) and behind them (its tail)
variables, tensor structs, quantisation and what kernels prepare; ratios are to the
whole, which it cannot do without. It lets a run overwrite its inputs; the engine does
so if it is told to, by ``pymlk compile --reuse-inputs``. Each model of the test data
and the shipped one.
"""

import re
import statistics
import subprocess
import sys
from pathlib import Path

from common import Bars, Figures
from common import main as run_main

from pymlk import ModelError, Program
from pymlk.compile import compile_model

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.reference import ROOT, manifest, model_path

ROUNDS = 1  # bytes do not vary
BARS: Bars = {
    "median ratio": (1.0, "max"),
    "larger models": (0, "max"),
    "larger models, inputs reused": (0, "max"),
    "worst ratio, inputs reused": (1.0, "max"),
}
MICRO = """
import sys
from tflite_micro import runtime
model = open(sys.argv[1], "rb").read()
runtime.Interpreter.from_bytes(model, arena_size=256 << 20).print_allocations()
"""


def micro(path: Path) -> tuple[int, int] | None:
    """Head and total of tflite-micro's arena; None where it refuses the model."""
    command = [sys.executable, "-c", MICRO, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "No module named" in done.stderr:
        raise SystemExit("no tflite-micro: pip install tflite-micro")
    found = dict(re.findall(r"Arena allocation (\w+) (\d+) bytes", done.stderr))
    return (int(found["head"]), int(found["total"])) if found else None


def ours(path: Path, keep_inputs: bool) -> int:
    """Arena of the engine's program."""
    data = path.read_bytes()
    return Program(compile_model(data, keep_inputs=keep_inputs)).arena_bytes


def run(rounds: int) -> Figures:
    """Compare all models once, whatever `rounds` says."""
    paths = {"readahead": ROOT / "models" / "readahead" / "model.tflite"}
    for entry in manifest("models"):
        paths[entry["name"]] = model_path("models", entry)
    figures: Figures = {}
    kept, reused, heads = [], [], []
    for name, path in sorted(paths.items()):
        try:
            arenas = ours(path, True), ours(path, False)
        except ModelError:
            continue
        theirs = micro(path)
        if theirs is None:
            continue
        head, total = theirs
        kept.append(arenas[0] / total)
        reused.append(arenas[1] / total)
        heads.append(arenas[1] / head)
        figures[name] = (
            f"{arenas[0]:9,} bytes, inputs reused {arenas[1]:9,}; tflite-micro "
            f"{total:9,}, its head {head:9,}"
        )
    figures["models"] = len(kept)
    figures["median ratio"] = statistics.median(kept)
    figures["worst ratio"] = max(kept)
    figures["larger models"] = sum(ratio > 1 for ratio in kept)
    figures["median ratio, inputs reused"] = statistics.median(reused)
    figures["worst ratio, inputs reused"] = max(reused)
    figures["larger models, inputs reused"] = sum(ratio > 1 for ratio in reused)
    figures["median ratio to its head, inputs reused"] = statistics.median(heads)
    return figures


if __name__ == "__main__":
    sys.exit(run_main((__doc__ or "").splitlines()[0], run, BARS, ROUNDS))
