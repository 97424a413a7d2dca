# SPDX-License-Identifier: MIT
"""What does one inference of a whole model cost, against whom, and at which limit?

The models of MLPerf Tiny from the test data, int8: keyword spotting (a DS-CNN on
49x10), anomaly detection, image classification, visual wake words. The rivals are
LiteRT with zero-copy tensors and tflite-runtime as it comes. The limit is what the
processor can multiply and add, measured, as if nothing else were to be done; ``avx2``
is the engine held to that instruction set. ``PYMLK_CPU=avxvnni make bench
ARGS=models`` pins the other one.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_engine import interpreters, pin
from common import Bars, Figures, calls, interleave
from common import main as run_main

from pymlk import Model
from pymlk.engine import instruction_sets

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.reference import DATA, manifest, model_path

ROUNDS = 60
# Long enough that the clock does not show, short enough to be seldom interrupted.
INNER = 1
MODELS = {
    "kws": "mlperf__kws_ref_model",
    "ad01": "mlperf__ad01_int8",
    "resnet": "mlperf__pretrainedResnet_quant",
    "vww": "mlperf__vww_96_int8",
}
BARS: Bars = {
    **{f"{name} over litert": (1.0, "max") for name in MODELS},
    **{f"{name} over tflite": (0.06, "max") for name in MODELS},
}


def peak_macs(names: tuple[str, ...]) -> dict[str, float]:
    """Multiply-accumulates per nanosecond of each instruction set, at best."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "peak_macs.so"
        source = Path(__file__).with_name("peak_macs.c")
        command = [os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "-o"]
        subprocess.run([*command, str(library), str(source)], check=True)
        peak = ctypes.CDLL(str(library)).mlk_peak_macs
        peak.restype = ctypes.c_double
        return {n: max(peak(n.encode()) for _ in range(20)) for n in names}


def measure(name: str, data: bytes, peaks: dict[str, float], rounds: int) -> Figures:
    """All rivals on one model, in turn."""
    model = Model(data, backend="engine")
    sets = {"pymlk": os.environ.get("PYMLK_CPU") or instruction_sets()[0]}
    rivals = {"pymlk": calls(model.invoke)}
    if "avx2" in peaks and sets["pymlk"] != "avx2":
        sets["avx2"] = "avx2"
        with pin("avx2"):
            rivals["avx2"] = calls(Model(data, backend="engine").invoke)
    others = interpreters(data, threads=None)
    if "litert" in others:
        rivals["litert"] = calls(others["litert"]._interpreter.Invoke)
    if "tflite" in others:
        rivals["tflite"] = calls(others["tflite"].invoke)
    got = interleave(rivals, rounds, INNER)
    figures: Figures = {f"{name} macs": model.macs}
    for rival, spread in got.items():
        figures[f"{name} {rival} us"] = spread.median / 1000
    for rival in ("litert", "tflite"):
        for ours in sets:
            label = name if ours == "pymlk" else f"{name} {ours}"
            if rival in got:
                ratio = got[ours].median / got[rival].median
                figures[f"{label} over {rival}"] = ratio
    for ours, cpu in sets.items():
        if peaks.get(cpu):
            label = name if ours == "pymlk" else f"{name} {ours}"
            limit = model.macs / peaks[cpu]
            figures[f"{label} over limit"] = got[ours].median / limit
    return figures


def run(rounds: int) -> Figures:
    """Measure every model; microseconds and ratios by name."""
    peaks = peak_macs(instruction_sets())
    figures: Figures = {"rounds": rounds}
    figures |= {f"{cpu} macs per ns": peak for cpu, peak in peaks.items() if peak}
    entries = {entry["name"]: entry for entry in manifest("models")}
    if not entries:
        print(f"no models in {DATA} (PYMLK_DATA names another place)", file=sys.stderr)
        return figures
    for name, file in MODELS.items():
        data = model_path("models", entries[file]).read_bytes()
        figures |= measure(name, data, peaks, rounds)
    return figures


if __name__ == "__main__":
    sys.exit(run_main((__doc__ or "").splitlines()[0], run, BARS, ROUNDS))
