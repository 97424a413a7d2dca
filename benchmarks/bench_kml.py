# SPDX-License-Identifier: MIT
"""What does KML's readahead network cost as an int16x8 program?

Its weights are read from the folder of third-party data (``PYMLK_DATA``, else
../shared/data); models/kml/recipe.py makes the program. The limit is the engine in a C
loop; the rivals are LiteRT with zero-copy tensors and tflite-runtime.
"""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from bench_engine import c_loop, interpreters, limit, pin
from common import Bars, Figures, calls, interleave
from common import main as run_main

from pymlk import Model

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("PYMLK_DATA") or ROOT / ".." / "shared" / "data")
ROUNDS = 200
INNER = 200
BARS: Bars = {"invoke ns": (200.0, "max"), "invoke over litert": (1.0, "max")}


def recipe() -> ModuleType:
    """Load the recipe, which is a script."""
    path = ROOT / "models" / "kml" / "recipe.py"
    spec = importlib.util.spec_from_file_location("kml_recipe", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(rounds: int) -> Figures:
    """Measure the program of the larger data set."""
    folder = DATA / "datasets" / "kml-readahead" / "online_nn_arch_data"
    if not folder.is_dir():
        print(f"no data in {folder}: nothing measured", file=sys.stderr)
        return {}
    kml = recipe()
    network, x, _ = kml.read_set(folder)
    data = kml.quantise(network, x, kml.SAME).flat
    with tempfile.TemporaryDirectory() as scratch:
        ours = Model(data, backend="engine")
        with pin("c"):
            plain = Model(data, backend="engine")
        rivals = {
            "c loop": limit(c_loop(scratch), ours),
            "invoke": calls(ours.invoke),
            "invoke, plain c": calls(plain.invoke),
        }
        for name, other in interpreters(data).items():
            inner = other._interpreter.Invoke if name == "litert" else other.invoke
            rivals[name] = calls(inner)
        spread = interleave(rivals, rounds, INNER)
    figures: Figures = {f"{name} ns": each.median for name, each in spread.items()}
    for name in ("c loop", "litert", "tflite"):
        if name in spread:
            ratio = spread["invoke"].median / spread[name].median
            figures[f"invoke over {name}"] = ratio
    return figures


if __name__ == "__main__":
    sys.exit(run_main((__doc__ or "").splitlines()[0], run, BARS, ROUNDS))
