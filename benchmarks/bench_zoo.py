# SPDX-License-Identifier: MIT
"""What does a prediction of kml's and of iolat's model cost?

The weights of kml are read from the folder of third-party data (``PYMLK_DATA``, else
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
BARS: Bars = {
    "kml invoke ns": (200.0, "max"),
    "iolat invoke ns": (400.0, "max"),
    "kml invoke over litert": (1.0, "max"),
    "iolat invoke over litert": (1.0, "max"),
}


def recipe() -> ModuleType:
    """Load the recipe, which is a script."""
    path = ROOT / "models" / "kml" / "recipe.py"
    spec = importlib.util.spec_from_file_location("kml_recipe", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def models() -> dict[str, bytes]:
    """Read or make the models that there are."""
    found = {"iolat": (ROOT / "models" / "iolat" / "model.tflite").read_bytes()}
    folder = DATA / "datasets" / "kml-readahead" / "online_nn_arch_data"
    if folder.is_dir():
        kml = recipe()
        network, x, _ = kml.read_set(folder)
        found["kml"] = kml.quantise(network, x, kml.SAME).flat
    else:
        print(f"no data in {folder}: kml is not measured", file=sys.stderr)
    return found


def measure(name: str, data: bytes, rounds: int) -> Figures:
    """Measure one model, all rivals in turn."""
    with tempfile.TemporaryDirectory() as scratch:
        ours = Model(data, backend="engine")
        with pin("c"):
            plain = Model(data, backend="engine")
        rivals = {
            "c loop": limit(c_loop(scratch), ours),
            "invoke": calls(ours.invoke),
            "invoke, plain c": calls(plain.invoke),
        }
        for rival, other in interpreters(data).items():
            inner = other._interpreter.Invoke if rival == "litert" else other.invoke
            rivals[rival] = calls(inner)
        spread = interleave(rivals, rounds, INNER)
    figures: Figures = {f"{name} {r} ns": each.median for r, each in spread.items()}
    for rival in ("c loop", "litert", "tflite"):
        if rival in spread:
            ratio = spread["invoke"].median / spread[rival].median
            figures[f"{name} invoke over {rival}"] = ratio
    return figures


def run(rounds: int) -> Figures:
    """Measure all of them."""
    figures: Figures = {}
    for name, data in models().items():
        figures |= measure(name, data, rounds)
    return figures


if __name__ == "__main__":
    sys.exit(run_main((__doc__ or "").splitlines()[0], run, BARS, ROUNDS))
