# SPDX-License-Identifier: MIT
"""What does one int8 inference from Python cost, and against whom?

The limit is the engine's own C code in a C loop. The rival to beat is LiteRT with
zero-copy tensors, ``_interpreter.Invoke()``: the least that a Python caller of it can
pay. All run in one process, on one thread, the same seeded models; ``avx2`` is the
engine held to that instruction set.
"""

import ctypes
import itertools
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import Bars, Figures, Rival, calls, interleave
from common import main as run_main

from pymlk import Model
from pymlk.engine import instruction_sets
from pymlk.write import Layer, mlp

ROOT = Path(__file__).resolve().parents[1]
ENGINE = ROOT / "kernel" / "engine"
ARCH = ROOT / "kernel" / "arch"
ROUNDS = 200
INNER = 200
SHAPES = ((5, 15, 5, 4), (16, 32, 16, 4), (31, 256, 2), (64, 128, 64, 10))
NAMES = tuple("-".join(map(str, shape)) for shape in SHAPES)
BARS: Bars = {
    **{f"{name} over litert": (0.2, "max") for name in NAMES[:2]},
    **{f"{name} over litert": (0.4, "max") for name in NAMES[2:]},
    **{f"{name} avx2 over litert": (1.0, "max") for name in NAMES},
}


def network(shape: tuple[int, ...]) -> bytes:
    """Write a dense per-channel network with seeded weights, ReLU in between."""
    chosen = random.Random(str(shape))
    layers = []
    for i, (width, rows) in enumerate(itertools.pairwise(shape)):
        hidden = i < len(shape) - 2
        layers.append(
            Layer(
                [
                    [chosen.randint(-127, 127) for _ in range(width)]
                    for _ in range(rows)
                ],
                [chosen.randint(-2000, 2000) for _ in range(rows)],
                [chosen.uniform(0.002, 0.01) for _ in range(rows)],
                0.05,
                -128 if hidden else 0,
                "RELU" if hidden else "NONE",
            )
        )
    return mlp(layers, 0.02, 3, softmax=False)


def c_loop(folder: str) -> ctypes.CDLL:
    """Build the engine with the flags of the wheel, and a loop around it."""
    library = Path(folder) / "run_loop.so"
    sources = [Path(__file__).with_name("run_loop.c")]
    sources += [*sorted(ENGINE.glob("mlk_*.c")), *sorted(ARCH.glob("mlk_*.c"))]
    subprocess.run(
        [
            os.environ.get("CC", "cc"), "-O2", "-std=gnu11", "-shared", "-fPIC",
            f"-I{ENGINE}", f"-I{ARCH}", "-o", str(library), *map(str, sources),
        ],
        check=True,
    )  # fmt: skip
    loaded = ctypes.CDLL(str(library))
    loaded.mlk_run_loop.restype = ctypes.c_int64
    loaded.mlk_run_loop.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long]
    return loaded


def aligned(size: int) -> tuple[Any, int]:
    """Memory on a cache line, as Model's; the owner and the address."""
    memory = ctypes.create_string_buffer(size + 64)
    return memory, (ctypes.addressof(memory) + 63) & ~63


def limit(library: ctypes.CDLL, model: Model) -> Rival:
    """Make a rival of the C loop, on a program and an arena of its own."""
    assert model.program is not None
    data = bytes(model.program)
    program, program_at = aligned(len(data))
    ctypes.memmove(program_at, data, len(data))
    arena, arena_at = aligned(model.arena_bytes)

    def measure(inner: int) -> float:
        # the buffers must live as long as this does
        assert program is not None
        assert arena is not None
        return float(library.mlk_run_loop(program_at, arena_at, inner)) / inner

    return measure


@contextmanager
def pin(name: str) -> Iterator[None]:
    """Models that are loaded meanwhile use one instruction set."""
    before = os.environ.get("PYMLK_CPU")
    os.environ["PYMLK_CPU"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYMLK_CPU"]
        else:
            os.environ["PYMLK_CPU"] = before


def interpreters(data: bytes, threads: int | None = 1) -> dict[str, Any]:
    """Load the model into every TFLite runtime that is installed.

    LiteRT has one thread; tflite-runtime so many, None for its own choice.
    """
    found: dict[str, Any] = {}
    try:
        from ai_edge_litert.interpreter import Interpreter as LiteRT

        found["litert"] = LiteRT(model_content=data, num_threads=1)
    except ImportError:
        print("ai-edge-litert is not installed: no rival, no bar", file=sys.stderr)
    try:
        from tflite_runtime.interpreter import Interpreter

        found["tflite"] = Interpreter(model_content=data, num_threads=threads)
    except ImportError:
        pass
    for interpreter in found.values():
        interpreter.allocate_tensors()
    return found


def bytes_of(view: memoryview) -> list[int]:
    """Flatten an int8 tensor."""
    return view.cast("B").cast("b").tolist()


def same_input(model: Model, others: dict[str, Any]) -> int:
    """Give all the same row; the largest difference of their outputs."""
    # the rivals need it anyway
    import numpy

    row = [random.Random(7).randint(-128, 127) for _ in range(model.input.nbytes)]
    model.input.cast("B")[:] = bytes(value & 0xFF for value in row)
    model.invoke()
    worst = 0
    for interpreter in others.values():
        (entry,), (result,) = (
            interpreter.get_input_details(),
            interpreter.get_output_details(),
        )
        interpreter.set_tensor(entry["index"], numpy.array([row], numpy.int8))
        interpreter.invoke()
        theirs = interpreter.get_tensor(result["index"])[0].tolist()
        pairs = zip(bytes_of(model.output), theirs, strict=True)
        worst = max(worst, *(abs(a - b) for a, b in pairs))
    return worst


def run(rounds: int) -> Figures:
    """Measure every shape; nanoseconds and ratios by name."""
    figures: Figures = {"rounds": rounds}
    with tempfile.TemporaryDirectory() as folder:
        library = c_loop(folder)
    for name, shape in zip(NAMES, SHAPES, strict=True):
        data = network(shape)
        model = Model(data, backend="engine")
        others = interpreters(data)
        # first: LiteRT refuses while somebody holds its inner interpreter
        figures[f"{name} outputs differ by"] = same_input(model, others)
        rivals = {"limit": limit(library, model), "pymlk": calls(model.invoke)}
        if "avx2" in instruction_sets():
            with pin("avx2"):
                rivals["avx2"] = calls(Model(data, backend="engine").invoke)
        if "litert" in others:
            rivals["litert"] = calls(others["litert"]._interpreter.Invoke)
        if "tflite" in others:
            rivals["tflite"] = calls(others["tflite"].invoke)
        got = interleave(rivals, rounds, INNER)
        for rival, spread in got.items():
            figures[f"{name} {rival} ns"] = spread.median
            figures[f"{name} {rival} min ns"] = spread.minimum
        for rival in got:
            if rival not in ("pymlk", "avx2"):
                ratio = got["pymlk"].median / got[rival].median
                figures[f"{name} over {rival}"] = ratio
        if "avx2" in got and "litert" in got:
            ratio = got["avx2"].median / got["litert"].median
            figures[f"{name} avx2 over litert"] = ratio
    return figures


if __name__ == "__main__":
    sys.exit(run_main((__doc__ or "").splitlines()[0], run, BARS, ROUNDS))
